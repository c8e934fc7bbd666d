//! Cases 1 to 20: locations, redirects, connections, TLS, proxies, limits.

mod connections;
mod limits;
mod locations;
mod proxies;
mod redirects;
mod trust;
mod versions;
