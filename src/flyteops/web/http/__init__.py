"""HTTP/1.1 over sockets: bytes become requests, responses become bytes, within bounds."""
