//! Modes that go for time, memory, handles, logs and the size of things.

use std::hint::black_box;

use crate::idp::registry_provider::log::{Level, emit};
use crate::idp::registry_provider::secrets::{Secret, Segment, assemble};
use crate::idp::registry_provider::{ambient, http, invocation};
use crate::{Outcome, broken_text, error, sly};

/// Runs a mode of this module; `None` for another's.
pub(crate) fn run(mode: &str) -> Option<Outcome> {
    Some(match mode {
        "trap" => trap(),
        "panic" => panic!("chaos was asked to panic \u{1b}[31min red"),
        "exit" => std::process::exit(0),
        "loop" => endless(),
        "memory" => memory(),
        "memory-gentle" => memory_gentle(),
        "recursion" => Outcome::Escaped(format!("came back with {}", recursion(black_box(0)))),
        "log-flood" => log_flood(),
        "log-long" => log_long(),
        "handles" => handles(),
        "secrets-large" => secrets_large(),
        "secrets-many" => secrets_many(),
        "responses" => responses(),
        "requests" => requests(),
        "argument-big" => argument_big(),
        "body-big" => body_big(),
        "random-big" => random_big(),
        "slow" => slow(),
        "text-broken" => {
            emit(Level::Warn, &broken_text(), &Vec::new());
            Outcome::Escaped("the host took text that is not UTF-8".to_owned())
        }
        "text-control" => control(),
        _ => return None,
    })
}

#[allow(clippy::empty_loop, reason = "this is the mode")]
fn endless() -> Outcome {
    let mut number = 1u64;
    loop {
        number = black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

fn trap() -> Outcome {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}

/// Allocates until the allocator gives up, which aborts.
fn memory() -> Outcome {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        held.push(vec![1; 1 << 20]);
        black_box(&held);
    }
}

/// Allocates until the allocator says no, and carries on.
fn memory_gentle() -> Outcome {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut block = Vec::new();
        if held.try_reserve(1).is_err() || block.try_reserve_exact(1 << 20).is_err() {
            return Outcome::Refused(format!("memory ended after {} MiB", held.len()));
        }
        block.resize(1 << 20, 1);
        held.push(block);
        if held.len() > 1024 {
            return Outcome::Escaped("1 GiB of memory".to_owned());
        }
    }
}

#[allow(unconditional_recursion, reason = "this is the mode")]
fn recursion(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recursion(frame[0] + 1) + frame[63]
}

fn log_flood() -> Outcome {
    for index in 0..100_000 {
        emit(Level::Warn, &format!("chaos line {index}"), &Vec::new());
    }
    Outcome::Quiet
}

fn log_long() -> Outcome {
    emit(Level::Warn, &"chaos ".repeat(200_000), &[("key".to_owned(), "value ".repeat(200_000))]);
    Outcome::Quiet
}

/// More handles than a call may hold.
fn handles() -> Outcome {
    let held: Vec<Secret> = (0..5000).map(|index| assemble(&[Segment::Text(index.to_string())])).collect();
    Outcome::Escaped(format!("{} secrets at once", held.len()))
}

/// Few handles with much behind them: the memory is the host's.
fn secrets_large() -> Outcome {
    let mebibyte = "x".repeat(1024 * 1024);
    let held: Vec<Secret> = (0..1000).map(|_| assemble(&[Segment::Text(mebibyte.clone())])).collect();
    Outcome::Escaped(format!("{} secrets of a mebibyte", held.len()))
}

/// One request with more secrets than an answer can be searched for.
fn secrets_many() -> Outcome {
    let held: Vec<Secret> =
        (0..1500).map(|index| assemble(&[Segment::Text(format!("secret-{index}"))])).collect();
    let mut request = sly::get(&sly::target("/chaos/ok"));
    let value = held.iter().map(Segment::Secret).collect();
    request.headers.push(http::Header { name: "x-many".to_owned(), value });
    match http::send(&request) {
        Ok(_) => Outcome::Escaped(format!("{} secrets in one request", held.len())),
        Err(error) => Outcome::Refused(format!("{}: {}", error.code, error.message)),
    }
}

/// As many answers, none of them dropped.
fn responses() -> Outcome {
    let mut held = Vec::new();
    for _ in 0..5000 {
        match http::send(&sly::get(&sly::target("/chaos/ok"))) {
            Ok(answer) => held.push(answer),
            Err(error) => {
                return Outcome::Refused(format!(
                    "{}: {} after {} answers",
                    error.code,
                    error.message,
                    held.len()
                ));
            }
        }
    }
    Outcome::Escaped(format!("{} answers at once", held.len()))
}

/// More requests than a call may send.
fn requests() -> Outcome {
    for index in 0..200 {
        if let Err(error) = http::send(&sly::get(&sly::target("/chaos/ok"))) {
            return Outcome::Refused(format!("{}: {} after {index} requests", error.code, error.message));
        }
    }
    Outcome::Escaped("200 requests".to_owned())
}

/// 20 MB into a host call.
fn argument_big() -> Outcome {
    let secret = assemble(&[Segment::Text("x".repeat(20_000_000))]);
    black_box(&secret);
    Outcome::Escaped("20 MB in one host call".to_owned())
}

/// The same through the body of a request.
fn body_big() -> Outcome {
    let request = http::Request {
        method: "POST".to_owned(),
        body: http::Body::Bytes(vec![b'x'; 20_000_000]),
        ..sly::get(&sly::target("/chaos/ok"))
    };
    sly::outcome(http::send(&request), "20 MB in one request")
}

fn random_big() -> Outcome {
    let bytes = ambient::random(u32::MAX);
    if bytes.len() > 4096 {
        return Outcome::Escaped(format!("{} random bytes", bytes.len()));
    }
    Outcome::Refused(format!("{} random bytes", bytes.len()))
}

/// A request to something that never answers, with a deadline of its own that is far away.
fn slow() -> Outcome {
    let request = http::Request { timeout_ms: Some(u32::MAX), ..sly::get(&sly::target("/chaos/slow")) };
    sly::outcome(http::send(&request), "an answer")
}

/// Text that would take over a terminal.
fn control() -> Outcome {
    let text = "\u{1b}]52;c;ZXZpbA==\u{7}\u{1b}[2J\u{9b}31mred\r\nerror: forged line\u{202e}\u{0}";
    emit(Level::Error, text, &[(text.to_owned(), text.to_owned())]);
    let refused = error(text, text.to_owned());
    let operation = invocation::operation();
    Outcome::Refused(format!("{} during {operation}", refused.message))
}
