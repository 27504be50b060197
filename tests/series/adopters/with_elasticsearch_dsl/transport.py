"""A stand-in for an Elasticsearch server, which answers bulk requests only."""

import json

from elastic_transport import BaseNode, HttpHeaders, NodeApiResponse
from elastic_transport._models import ApiResponseMeta

# {_id: the _source that was sent last}
indexed = {}
