"""The intake that all sources use: objects and streams become batches, each object version exactly once."""
