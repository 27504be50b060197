"""A stand-in for an Elasticsearch server: it answers bulk requests only."""

import json

from elastic_transport import ApiResponseMeta, BaseNode, HttpHeaders
from elastic_transport._node import NodeApiResponse

# What was indexed last for each _id.
indexed = {}
HEADERS = {"x-elastic-product": "Elasticsearch", "content-type": "application/json"}


class RecordingNode(BaseNode):
    """Keep the documents of the client's requests instead of sending them."""

    def perform_request(self, method, target, body=None, headers=None, **kwargs):
        """Answer as a server does that has indexed all of them."""
        if not target.startswith("/_bulk"):
            raise NotImplementedError(f"{method} {target}")
        lines = [json.loads(line) for line in body.splitlines()]
        items = []
        for action, source in zip(lines[::2], lines[1::2], strict=True):
            indexed[int(action["index"]["_id"])] = source
            items.append({"index": {"_id": action["index"]["_id"], "status": 200}})
        meta = ApiResponseMeta(
            status=200,
            http_version="1.1",
            headers=HttpHeaders(HEADERS),
            duration=0.0,
            node=self.config,
        )
        body = json.dumps({"errors": False, "items": items}).encode()
        return NodeApiResponse(meta, body)

    def close(self):
        """Do nothing, as there's no connection."""
