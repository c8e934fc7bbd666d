//! Push and pull: sources and sinks joined to the client.
