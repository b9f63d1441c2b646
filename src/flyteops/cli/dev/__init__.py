"""`flyte dev`: a server, its packs and a chat on one computer."""
