"""The page that Prometheus reads."""

from typing import TYPE_CHECKING

from keras_seqattn.serving.monitoring.metrics import CONTENT_TYPE, ServerMetrics
from keras_seqattn.serving.optional import packages_of_extra

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

__all__ = ["metrics_page"]


def metrics_page(metrics: ServerMetrics, path: str) -> "Route":
    """The route of the page.

    Args:
        metrics: what it shows.
        path: where; a query behind it is answered by 400, as TensorFlow Serving does.
    """
    with packages_of_extra("serving"):
        from starlette.responses import Response
        from starlette.routing import Route

    def show(request: "Request") -> "Response":
        if request.url.query:
            return Response(b"Malformed request", 400, media_type="text/plain")
        return Response(metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})

    return Route(path, show)
