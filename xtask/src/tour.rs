//! The README's first command: everything built, a registry on this machine, an artifact there and back.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::providers;
use crate::tools::{self, root, say, target, words};

/// Runs it; the registry ends with it, however it ends.
pub(crate) fn run(release: bool) -> Result<()> {
    providers::ensure(release)?;
    let idp = providers::host(release, true)?;
    let scratch = Scratch::new()?;
    let address = free_address()?;

    let mut serve = Command::new(&idp);
    serve.args(["registry", "serve", "--listen", &address.to_string(), "--memory", "--log-level", "warn"]);
    show(&serve);
    let registry = Server::start(serve, address)?;

    let reference = format!("{address}/tour/hello:1.0.0");
    let hello = Path::new("examples/hello");
    step(&idp, &["push", &hello.to_string_lossy(), &reference, "--insecure"])?;
    let back = scratch.0.join("hello");
    step(&idp, &["pull", &reference, &back.to_string_lossy(), "--insecure"])?;

    let (sent, received) = (tree(&root().join(hello))?, tree(&back)?);
    if sent.is_empty() || sent != received {
        bail!(
            "{} came back different: sent {:?}, received {:?}",
            hello.display(),
            sent.keys(),
            received.keys()
        );
    }
    drop(registry);
    say(&format!("\n{} files came back byte for byte. The binary is {}", sent.len(), idp.display()));
    Ok(())
}

fn step(idp: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(idp);
    command.args(arguments).current_dir(root());
    show(&command);
    tools::run(&mut command)
}

fn show(command: &Command) {
    say(&format!("\n$ {}", words(command)));
}

/// A port that nobody listens on at this moment.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("could not find a free port")?;
    Ok(listener.local_addr()?)
}

/// A registry that is stopped when it goes out of scope.
struct Server(Child);

impl Server {
    fn start(mut command: Command, address: SocketAddr) -> Result<Self> {
        let mut server = Self(command.spawn().context("could not start the registry")?);
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err() {
            if let Some(status) = server.0.try_wait()? {
                bail!("the registry ended by itself ({status})");
            }
            if Instant::now() > end {
                bail!("the registry does not answer on {address}");
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It holds nothing worth keeping; that it may be gone already is no matter.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory of this run, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let directory = target().join(format!("tour-{}", std::process::id()));
        fs::create_dir_all(&directory).with_context(|| format!("could not make {}", directory.display()))?;
        Ok(Self(directory))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Every file below a directory, by its path from there.
fn tree(directory: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    fn walk(base: &Path, directory: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                walk(base, &path, files)?;
            } else if let Ok(name) = path.strip_prefix(base) {
                files.insert(name.to_path_buf(), fs::read(&path)?);
            }
        }
        Ok(())
    }
    let mut files = BTreeMap::new();
    walk(directory, directory, &mut files)
        .with_context(|| format!("could not read {}", directory.display()))?;
    Ok(files)
}
