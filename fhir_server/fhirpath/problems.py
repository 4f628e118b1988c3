"""What can be wrong with an expression, and with evaluating one."""


class FhirPathError(ValueError):
    """Whatever a FHIRPath expression comes to that is no result."""


class BadSyntax(FhirPathError):
    """The expression is not FHIRPath; `position` is the offset of the first offending character."""

    def __init__(self, text: str, position: int) -> None:
        super().__init__(f"{text} at position {position}")
        self.position = position


class BadExpression(FhirPathError):
    """Well formed, but wrong for its type: an element, function or argument that is not there."""


class UnknownFunction(BadExpression):
    """A function that the compiler has not; another engine may have it."""


class EvaluationError(FhirPathError):
    """The expression has no result for this input, such as one item wanted where there are two."""
