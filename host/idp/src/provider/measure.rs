//! The two backends side by side, on demand: `cargo test -p idp --release provider::measure -- --ignored --nocapture`.

use std::time::Instant;

use idp_oci::client::dialect::Dialect as _;

use super::builtin::{BuiltIn, GENERIC};
use super::call::Linked;
use super::context::CallContext;
use super::dialect::ProviderDialect;
use super::engine::{Backend, compiler, runtime};
use super::grants::{Allowance, Grants};
use super::load::{self, Trusted};
use super::transport::Direct;

#[tokio::test]
#[ignore = "prints numbers"]
#[allow(clippy::print_stderr, reason = "this is what it is for")]
async fn backends() {
    let generic = BuiltIn::find(GENERIC).expect("built in");
    let component = std::fs::read(generic.path()).expect("cargo xtask providers");
    let manifest = std::sync::Arc::new(generic.manifest().expect("a manifest"));
    for backend in [Backend::Native, Backend::Pulley] {
        let started = Instant::now();
        let code =
            compiler(backend).and_then(|engine| engine.precompile_component(&component)).expect("compiled");
        let compiled = started.elapsed();
        let engine = runtime(backend).expect("an engine");
        let (mut loads, mut links, mut first, mut calls) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..30 {
            let started = Instant::now();
            let loaded = load::component(&engine, &Trusted::verified(&code)).expect("loaded");
            loads.push(started.elapsed());
            let started = Instant::now();
            let linked = Linked::new(&loaded, &manifest).expect("linked");
            links.push(started.elapsed());
            let grants = Grants::new(&manifest, &Allowance::BuiltIn, &Default::default());
            let context = CallContext::new("r.example".parse().expect("a registry"), "https", "push");
            let transport = std::sync::Arc::new(Direct::default());
            let deadline = std::time::Duration::from_secs(20);
            let provider = ProviderDialect::new(
                linked,
                std::sync::Arc::clone(&manifest),
                grants,
                &Default::default(),
                context,
                transport,
                deadline,
            );
            let provider = provider.expect("a provider");
            // No challenge and no credential: the answer needs no request.
            for times in [&mut first, &mut calls] {
                let started = Instant::now();
                let _ = provider.authorize(&Default::default()).await;
                times.push(started.elapsed());
            }
        }
        let median = |times: &mut Vec<std::time::Duration>| {
            times.sort();
            times[times.len() / 2]
        };
        eprintln!(
            "{}: {} KB, compile {compiled:?}, load {:?}, link {:?}, instantiate and authorize {:?}, again {:?}",
            backend.name(),
            code.len() / 1024,
            median(&mut loads),
            median(&mut links),
            median(&mut first),
            median(&mut calls)
        );
    }
}
