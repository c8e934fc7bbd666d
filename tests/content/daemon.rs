//! The Docker daemon, a real one and one that only says what it is told to say.

use std::path::Path;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use bytes::Bytes;
use idp_oci::manifest::Shape;
use idp_oci::sink::{DockerSink, SinkError};
use idp_oci::source::{DockerSource, Selection, SourceError};
use idp_test_support::images::{TarEntry, TestImage, write_tar};
use idp_test_support::peers::{self, Dockerd};
use tempfile::{TempDir, tempdir};

use crate::drive::{Taken, give, take, take_text};

#[tokio::test(flavor = "multi_thread")]
async fn a_real_daemon_takes_and_gives() {
    let Some(daemon) = peers::require(Dockerd::start().await, "dockerd") else { return };
    let dir = tempdir().expect("a directory");
    for (number, image) in [
        TestImage::one_layer(),
        TestImage::layers(60),
        TestImage::same_layer_twice(),
        TestImage::big(20 << 20),
    ]
    .into_iter()
    .enumerate()
    {
        let image = image.expect("made");
        let input = dir.path().join(format!("in{number}"));
        image.write_layout(&input, None).expect("written");
        let taken = take_text(".", &input).await.expect("read");
        let name = format!("r.example/team/app:{number}");
        let sink = DockerSink::at(&daemon.host(), None).expect("an address");
        give(&taken, Box::new(sink), Some(&name))
            .await
            .unwrap_or_else(|error| panic!("{number}: {error}\n{}", daemon.log()));

        let source = DockerSource::at(&daemon.host(), &name).expect("an address");
        let back = take(Box::new(source), &Selection::default()).await.expect("read");
        assert_eq!(back.name.as_deref(), Some(&*name));
        let contents = back.contents().await;
        assert_same_image(&taken, &back).await;
        assert_eq!(contents.len(), taken.blobs.len());

        // The same image out of a file: the same bytes, compressed the same way.
        let source = DockerSource::at(&daemon.host(), &name).expect("an address");
        let twice = take(Box::new(source), &Selection::default()).await.expect("read");
        assert_eq!(twice.root().bytes(), back.root().bytes());
    }
    let absent = Box::new(DockerSource::at(&daemon.host(), "absent:1").expect("an address"));
    let error = take(absent, &Selection::default()).await.expect_err("absent");
    assert!(
        matches!(error, SourceError::NotFound(_))
            && error.to_string().contains("there is no image `absent:1`"),
        "{error}"
    );

    // A blob that is not what its descriptor says names nothing in the daemon.
    let mut damaged = take_text("in0", dir.path()).await.expect("read");
    let layer =
        damaged.blobs.iter().position(|blob| blob.descriptor.media_type.contains("layer")).expect("a layer");
    let mut descriptor = damaged.blobs[layer].descriptor.clone();
    let file = dir.path().join("bad");
    std::fs::write(&file, vec![1; usize::try_from(descriptor.size).expect("small")]).expect("written");
    descriptor.annotations.clear();
    let file = std::fs::File::open(file).expect("opened");
    damaged.blobs[layer] = idp_oci::blob::Blob::from_file(descriptor, file.into(), 0);
    let sink = DockerSink::at(&daemon.host(), Some("damaged:1".to_owned())).expect("an address");
    let error = give(&damaged, Box::new(sink), None).await.expect_err("damaged");
    assert!(matches!(error, SinkError::Corrupt(_)), "{error}");
    let source = Box::new(DockerSource::at(&daemon.host(), "damaged:1").expect("an address"));
    assert!(matches!(take(source, &Selection::default()).await, Err(SourceError::NotFound(_))));
}

/// The same config and the same tars, however they are compressed.
async fn assert_same_image(one: &Taken, other: &Taken) {
    use std::io::Read as _;
    let mut parts = Vec::new();
    for taken in [one, other] {
        let contents = taken.contents().await;
        let Shape::Image { config, layers } = taken.root().shape() else { panic!("an image") };
        let tars = layers.iter().map(|layer| {
            let bytes = &contents[&layer.digest];
            let mut tar = Vec::new();
            match bytes.starts_with(&[0x1f, 0x8b]) {
                true => drop(flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut tar).expect("gzip")),
                false => tar.clone_from(bytes),
            }
            tar
        });
        parts.push((contents[&config.digest].clone(), tars.collect::<Vec<_>>()));
    }
    assert!(parts[0].0 == parts[1].0, "the config changed");
    assert!(parts[0].1 == parts[1].1, "the layers changed");
}

/// A daemon that has one image and answers loads as it is told.
#[derive(Clone)]
struct Fake {
    inspect: &'static str,
    archive: Vec<Bytes>,
    verdict: &'static str,
}

struct Running {
    host: String,
    _dir: TempDir,
}

fn serve(fake: Fake) -> Running {
    let dir = tempdir().expect("a directory");
    let path = dir.path().join("docker.sock");
    let listener = tokio::net::UnixListener::bind(&path).expect("bound");
    let router = Router::new()
        .route("/images/app/json", get(|State(fake): State<Fake>| async move { fake.inspect }))
        .route(
            "/images/app/get",
            get(|State(fake): State<Fake>| async move {
                let chunks = fake.archive.into_iter().map(Ok::<_, std::io::Error>);
                Body::from_stream(futures_util::stream::iter(chunks))
            }),
        )
        .route(
            "/images/load",
            post(|State(fake): State<Fake>, body: Body| async move {
                match axum::body::to_bytes(body, 100 << 20).await {
                    Ok(_) => (StatusCode::OK, fake.verdict),
                    Err(_) => (StatusCode::BAD_REQUEST, "unexpected EOF"),
                }
            }),
        )
        .fallback(|| async { (StatusCode::NOT_FOUND, r#"{"message":"No such image"}"#) })
        .with_state(fake);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Running { host: format!("unix://{}", path.display()), _dir: dir }
}

const CLASSIC_STORE: &str =
    r#"{"Id":"sha256:1","RepoTags":["app:latest"],"Os":"linux","Architecture":"amd64"}"#;
const CONTAINERD_STORE: &str = r#"{"Id":"sha256:1","RepoTags":["app:latest"],"Os":"linux","Architecture":"amd64",
    "Descriptor":{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:1","size":1}}"#;

fn chunks(entries: &[TarEntry]) -> Vec<Bytes> {
    let mut bytes = Vec::new();
    write_tar(&mut bytes, entries).expect("written");
    bytes.chunks(1000).map(Bytes::copy_from_slice).collect()
}

async fn read(
    inspect: &'static str,
    archive: Vec<Bytes>,
    selection: &Selection,
) -> Result<Taken, SourceError> {
    let running = serve(Fake { inspect, archive, verdict: "" });
    take(Box::new(DockerSource::at(&running.host, "app").expect("an address")), selection).await
}

#[tokio::test]
async fn a_stream_gives_what_the_same_archive_gives_as_a_file() {
    let dir = tempdir().expect("a directory");
    for image in [TestImage::layers(5), TestImage::same_layer_twice(), TestImage::empty_layer()] {
        let image = image.expect("made");
        let classic = image.docker_classic_entries(&["app:latest"]).expect("made");
        let new = image.docker_25_entries(&["app:latest"]).expect("made");
        image.write_docker_classic(&dir.path().join("x.tar"), &["app:latest"]).expect("written");
        let from_file = take_text("x.tar", dir.path()).await.expect("read");
        for mut entries in [classic, new] {
            for _ in 0..2 {
                let taken = read(CLASSIC_STORE, chunks(&entries), &Selection::default()).await.expect("read");
                assert_eq!(taken.root().bytes(), from_file.root().bytes());
                assert_eq!(taken.contents().await, from_file.contents().await);
                assert_eq!(taken.name.as_deref(), Some("app:latest"));
                entries.reverse();
            }
        }
    }
}

#[tokio::test]
async fn a_daemon_that_keeps_images_as_registries_do_is_taken_at_its_word() {
    for image in [TestImage::index(), TestImage::big(100_000), TestImage::same_layer_twice()] {
        let image = image.expect("made");
        let mut entries = image.layout_entries(Some("latest")).expect("made");
        entries.push(TarEntry::file("manifest.json", *b"[]"));
        for _ in 0..2 {
            let taken = read(CONTAINERD_STORE, chunks(&entries), &Selection::default()).await.expect("read");
            assert_eq!(taken.root().digest().as_str(), image.digest());
            assert_eq!(taken.contents().await.len() + taken.manifests.len(), image.contents.len());
            entries.reverse();
        }
    }
    // One platform of three: the others' layers are not sent.
    let image = TestImage::index().expect("made");
    let entries = image.layout_entries(None).expect("made");
    let platform = serde_json::from_str(r#"{"os":"linux","architecture":"arm"}"#).expect("a platform");
    let selection = Selection { platform: Some(platform), ..Selection::default() };
    let taken = read(CONTAINERD_STORE, chunks(&entries), &selection).await.expect("read");
    assert_eq!((taken.manifests.len(), taken.contents().await.len()), (1, 3));
    let error = read(CLASSIC_STORE, chunks(&entries), &selection).await.expect_err("amd64").to_string();
    assert!(error.contains("is for linux/amd64, not for linux/arm"), "{error}");
}

#[tokio::test]
async fn streams_that_break_are_errors() {
    let image = TestImage::layers(3).expect("made");
    let classic = image.docker_classic_entries(&[]).expect("made");
    let new = image.docker_25_entries(&[]).expect("made");
    for (mut archive, expect) in [(chunks(&classic), "truncated"), (chunks(&new), "truncated")] {
        archive.truncate(archive.len() / 2);
        let error = read(CLASSIC_STORE, archive, &Selection::default()).await.expect_err(expect).to_string();
        assert!(error.contains(expect) || error.contains("missing"), "{error}");
    }
    let flipped: Vec<_> = new
        .iter()
        .map(|entry| match entry {
            TarEntry::File(path, content) if content.size() > 1500 => {
                let mut bytes = content.bytes().expect("made");
                bytes[700] ^= 1;
                TarEntry::file(path.clone(), bytes)
            }
            other => other.clone(),
        })
        .collect();
    for inspect in [CLASSIC_STORE, CONTAINERD_STORE] {
        let error =
            read(inspect, chunks(&flipped), &Selection::default()).await.expect_err("damaged").to_string();
        assert!(error.contains("is damaged: its bytes hash to"), "{error}");
    }
    let error = read("nonsense", vec![], &Selection::default()).await.expect_err("nonsense").to_string();
    assert!(error.contains("description is not valid"), "{error}");
    let absent = DockerSource::at("unix:///nonexistent/docker.sock", "app").expect("an address");
    let error = take(Box::new(absent), &Selection::default()).await.expect_err("nobody");
    let text = error.to_string();
    assert!(matches!(error, SourceError::NotFound(_)), "{text}");
    assert!(text.contains("cannot reach the Docker daemon at unix:///nonexistent/docker.sock"), "{text}");
}

async fn load(verdict: &'static str, image: std::io::Result<TestImage>) -> Result<(), SinkError> {
    let dir = tempdir().expect("a directory");
    image.and_then(|image| image.write_layout(dir.path(), None)).expect("written");
    let taken = take_text(".", dir.path()).await.expect("read");
    let running = serve(Fake { inspect: CLASSIC_STORE, archive: vec![], verdict });
    let sink = DockerSink::at(&running.host, None).expect("an address");
    give(&taken, Box::new(sink), Some("r.example/app:1")).await
}

#[tokio::test]
async fn what_a_daemon_cannot_load_is_said_before_anything_is_sent() {
    load("{\"stream\":\"Loaded image: r.example/app:1\\n\"}\n", TestImage::one_layer())
        .await
        .expect("loaded");
    for (image, verdict, expect) in [
        (TestImage::index(), "", "choose one with --platform"),
        (TestImage::foreign_layer(), "", "a foreign layer"),
        (TestImage::config_equals_layer(), "", "no container image"),
        (
            TestImage::one_layer(),
            "{\"errorDetail\":{\"message\":\"no space left on device\"},\"error\":\"no space left on device\"}\n",
            "refused the image: no space left on device",
        ),
    ] {
        let error = load(verdict, image).await.expect_err(expect).to_string();
        assert!(error.contains(expect), "{error}");
    }
    let sink = DockerSink::at("unix:///nonexistent/docker.sock", None).expect("an address");
    let dir = tempdir().expect("a directory");
    TestImage::one_layer().and_then(|image| image.write_layout(dir.path(), None)).expect("written");
    let taken = take_text(".", Path::new(dir.path())).await.expect("read");
    let error = give(&taken, Box::new(sink), None).await.expect_err("nobody");
    assert!(matches!(error, SinkError::NotFound(_)), "{error}");
}
