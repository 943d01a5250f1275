"""Vision-language networks: retrieval, question answering, captioning."""
