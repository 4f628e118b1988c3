# What makes load: Locust, the scenarios and the synthetic region. No server runs in it.
FROM python:3.12-slim
WORKDIR /opt/load
COPY pyproject.toml README.md LICENSE ./
COPY fhir_server fhir_server
COPY fhir_operations fhir_operations
COPY operations operations
COPY profiles profiles
COPY terminology terminology
RUN python -m pip install --no-cache-dir '.[load]'
COPY loadtests loadtests
# The plan and the raw data stand in /load, which is mounted.
ENV LOADTEST_PLAN=/load/plan.json \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/opt/load \
    PYTHONUNBUFFERED=1
VOLUME /load
USER 10001:10001
ENTRYPOINT ["locust", "-f", "/opt/load/loadtests/locustfile.py", "--headless"]
