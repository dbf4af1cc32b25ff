"""What the page is told instead of an answer."""


class RefusedError(Exception):
    """A request that is not answered, in one sentence for the page.

    Args:
        message: What is wrong and what to do.
        status: Of HTTP, such as 422 for what cannot be used and 413 for what is too large.
    """

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.message, self.status = message, status
