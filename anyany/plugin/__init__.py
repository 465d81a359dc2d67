"""The plugin contract, discovery and records. Standard library and pluggy only."""
