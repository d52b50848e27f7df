"""A bundle in onnxruntime: sessions, the processes of foreign graphs, and a network run over a scan."""
