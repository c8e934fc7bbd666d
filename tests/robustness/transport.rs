//! Cases 1 to 20: locations, redirects, connections, TLS, proxies, limits.
