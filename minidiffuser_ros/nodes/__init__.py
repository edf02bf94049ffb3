"""The nodes of the graph, one file each, thin: message → arrays, call the core, result → message, publish."""
