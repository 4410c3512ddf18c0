"""Where turns come from: local torch, a server, a scripted fake; one protocol."""
