# Two stages: the first installs, the second has what was installed and nothing to build with.
FROM python:3.12-slim AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY fhir_server fhir_server
COPY fhir_operations fhir_operations
COPY operations operations
COPY profiles profiles
COPY terminology terminology
# Without pip of its own: the one of the stage installs into it.
RUN python -m venv --without-pip /opt/keyworking \
    && python -m pip --python /opt/keyworking/bin/python install --no-cache-dir .

FROM python:3.12-slim
RUN python -m pip uninstall --yes pip \
    && groupadd --system --gid 10001 keyworking \
    && useradd --system --uid 10001 --gid keyworking --no-create-home keyworking \
    && install -d -o keyworking -g keyworking -m 0700 /var/lib/keyworking
COPY --from=build /opt/keyworking /opt/keyworking
# The root file system may be read-only: nothing is written but the store.
ENV PATH=/opt/keyworking/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    KEYWORKING_STORE=sqlite:////var/lib/keyworking/keyworking.db
WORKDIR /var/lib/keyworking
VOLUME /var/lib/keyworking
USER 10001:10001
# Ready, not only live: whoever waits for it wants the store too.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["python", "-c", \
    "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ.get('KEYWORKING_PORT', '8080') + '/health/ready', timeout=4)"]
ENTRYPOINT ["keyworking"]
CMD ["serve"]
