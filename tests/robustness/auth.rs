//! Cases 21 to 32: being let in. What only the binary shows (29, and sides of 28 and 32) is in `tests/faults/robustness.rs`.

mod challenges;
mod refusals;
mod secrets;
mod tokens;

use idp_test_support::faults::{Fault, Reply, Seen, Server, url_pairs};

/// A refusal with these challenges; `HOST` stands for the server.
fn asks(server: &Server, challenges: &[&str]) -> Fault {
    let reply = challenges.iter().fold(Reply::status(401), |reply, challenge| {
        reply.and_header("www-authenticate", &challenge.replace("HOST", &server.address()))
    });
    Fault::Reply(reply)
}

/// A good answer of a token service.
fn grants(token: &str) -> Fault {
    Fault::Reply(Reply::status(200).body(serde_json::json!({"token": token, "expires_in": 300}).to_string()))
}

/// What the token service was asked.
fn token_requests(server: &Server) -> Vec<Seen> {
    server.requests().into_iter().filter(|seen| seen.target.starts_with("/token")).collect()
}

/// The scopes of a question by GET, in order.
fn scopes(seen: &Seen) -> Vec<String> {
    let query = seen.target.split_once('?').map(|(_, query)| query).unwrap_or_default();
    url_pairs(query).filter(|(name, _)| name == "scope").map(|(_, value)| value).collect()
}

/// The form of a question by POST.
fn form(seen: &Seen, name: &str) -> Option<String> {
    let body = String::from_utf8_lossy(&seen.body).into_owned();
    url_pairs(&body).find(|(key, _)| key == name).map(|(_, value)| value)
}
