//! The archive that a daemon streams, read while it comes, in whatever order its members stand.
//!
//! Layers leave as they pass: plain tars packed on the way, others as they are. What does not arrive for a reason that passes makes
//! another pass necessary, in which everything else is skipped. What is small waits in one shared temporary file until the manifests
//! have come. Nothing is held in memory but the table of names and what is on its way.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::blob::Blob;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::layout::{self, Contents, INDEX, Resolved};
use crate::manifest::{Descriptor, MAX_MANIFEST};
use crate::media;
use crate::source::archive::{given_up_or, is_plain, normal, tar_error};
use crate::source::classic::{self, Layer};
use crate::source::format::{self, Format};
use crate::source::outlet::{Outlet, Streamed};
use crate::source::pack::{self, SMALL};
use crate::source::{Compression, Image, Selection, SourceError};
use crate::tarball::{Kind, Member, Reader, StreamInput};

/// Links to links to links.
const MAX_LINKS: usize = 8;

/// What is known of an image before its archive comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expect {
    /// The daemon keeps images as registries do: what comes is already what is to be pushed, plain tars included.
    pub(crate) as_stored: bool,
}

/// What became of a member.
#[derive(Debug, Clone)]
enum Held {
    /// It waits in the shared file.
    Waiting { offset: u64, size: u64 },
    /// It went out as a layer. `diff_id` is known where it was a plain tar, and then the layer is its packed form.
    Sent { descriptor: Box<Descriptor>, diff_id: Option<Digest> },
    /// It is a name for another member.
    Link(String),
    /// It did not arrive, and has to come again.
    Lost,
}

/// An archive that is read in one pass or more.
#[derive(Debug)]
pub(crate) struct Stream {
    members: HashMap<String, Held>,
    /// Layers of this pass whose arrival is not known yet.
    pending: Vec<(String, oneshot::Receiver<bool>)>,
    /// This is a later pass: what arrived in an earlier one is not looked at again.
    again: bool,
    spool: Arc<File>,
    spooled: u64,
    /// Plain layers are packed.
    packs: bool,
    hold: bool,
    selection: Selection,
    what: String,
    outlet: Outlet,
}

impl Stream {
    /// Nothing read yet. `what` names the archive in errors.
    pub(crate) fn new(
        expect: Expect,
        selection: &Selection,
        what: &str,
        outlet: Outlet,
    ) -> Result<Self, SourceError> {
        let spool = tempfile::tempfile().map_err(|error| SourceError::Io { what: what.to_owned(), error })?;
        Ok(Self {
            members: HashMap::new(),
            pending: Vec::new(),
            again: false,
            spool: Arc::new(spool),
            spooled: 0,
            packs: !expect.as_stored && selection.compression != Compression::Keep,
            // With one platform wanted, a packed layer that passes may belong to another one.
            hold: expect.as_stored && selection.platform.is_some(),
            selection: selection.clone(),
            what: what.to_owned(),
            outlet,
        })
    }

    /// Reads the archive from its start. True when everything has arrived; else it has to come again.
    pub(crate) fn pass(&mut self, input: impl Read) -> Result<bool, SourceError> {
        let what = self.what.clone();
        self.again = !self.members.is_empty();
        let mut reader = Reader::new(StreamInput(input));
        while let Some(member) = reader.next().map_err(|error| tar_error(error, &what))? {
            self.take(&member, &mut reader)?;
        }
        for (path, arrived) in std::mem::take(&mut self.pending) {
            if !arrived.blocking_recv().unwrap_or(false) {
                self.members.insert(path, Held::Lost);
            }
        }
        if self.outlet.is_closed() {
            return Err(SourceError::Closed);
        }
        Ok(!self.members.values().any(|held| matches!(held, Held::Lost)))
    }

    fn invalid(&self, text: &str) -> SourceError {
        SourceError::Invalid(format!("{}: {text}", self.what))
    }

    fn take(&mut self, member: &Member, body: &mut dyn Read) -> Result<(), SourceError> {
        let Some(path) = normal("", &member.path) else { return Ok(()) };
        if self.again && self.members.get(&path).is_some_and(|held| !matches!(held, Held::Lost)) {
            return Ok(());
        }
        let parent = path.rsplit_once('/').map(|(parent, _)| parent).unwrap_or_default();
        let held = match &member.kind {
            Kind::File => self.file(&path, member.size, body)?,
            Kind::Symlink(target) => match normal(parent, target) {
                Some(target) => Held::Link(target),
                None => return Ok(()),
            },
            Kind::Hardlink(target) => match normal("", target) {
                Some(target) => Held::Link(target),
                None => return Ok(()),
            },
            Kind::Directory | Kind::Other(_) => return Ok(()),
        };
        self.members.insert(path, held);
        Ok(())
    }

    fn file(&mut self, path: &str, size: u64, body: &mut dyn Read) -> Result<Held, SourceError> {
        let what = format!("{}: `{path}`", self.what);
        let failed = |error: io::Error| given_up_or(error, &what);
        let mut head = Vec::with_capacity(512);
        (&mut *body).take(512).read_to_end(&mut head).map_err(failed)?;
        let named = layout::digest_of_path(path);
        let format = Format::of(&head);
        let mut body = io::Read::chain(&*head, body);
        match format {
            Format::Tar if self.packs => self.plain_layer(path, size, &mut body, named, &what),
            Format::Tar | Format::Gzip | Format::Zstd if !self.hold => {
                let media_type = match format {
                    Format::Gzip => media::OCI_LAYER_GZIP,
                    Format::Zstd => media::OCI_LAYER_ZSTD,
                    _ => media::OCI_LAYER,
                };
                self.ready_layer(path, size, &mut body, media_type, named, &what)
            }
            _ => {
                let spool = Arc::clone(&self.spool);
                let (_, size) = self.copy(
                    &mut body,
                    named.as_ref(),
                    &mut |chunk| io::Write::write_all(&mut &*spool, chunk),
                    &what,
                )?;
                let offset = self.spooled;
                self.spooled += size;
                Ok(Held::Waiting { offset, size })
            }
        }
    }

    /// A layer as the daemon stores it. Its name is its digest, so it can be asked for before it goes.
    fn ready_layer(
        &mut self,
        path: &str,
        size: u64,
        body: &mut dyn Read,
        media_type: &str,
        named: Option<Digest>,
        what: &str,
    ) -> Result<Held, SourceError> {
        let sent = |descriptor: Descriptor| Held::Sent { descriptor: descriptor.into(), diff_id: None };
        if size <= SMALL {
            let mut all = Vec::new();
            let (digest, size) = self.copy(
                body,
                named.as_ref(),
                &mut |chunk| {
                    all.extend_from_slice(chunk);
                    Ok(())
                },
                what,
            )?;
            let descriptor = Descriptor::new(media_type, digest, size);
            self.outlet.send(Blob::from_known(descriptor.clone(), all.into()))?;
            return Ok(sent(descriptor));
        }
        if let Some(digest) = &named {
            let descriptor = Descriptor::new(media_type, digest.clone(), size);
            if self.outlet.is_there(path, &descriptor)? {
                return Ok(sent(descriptor));
            }
        }
        let mut wrong = None;
        let given_up = || self.outlet.is_closed();
        let streamed = self.outlet.live(path, |emit| {
            let mut hasher = Hasher::new(named.as_ref().map_or(Algorithm::Sha256, Digest::algorithm));
            format::copy(body, &given_up, &mut |chunk| {
                hasher.update(chunk);
                emit(Bytes::copy_from_slice(chunk))
            })?;
            let size = hasher.count();
            let digest = hasher.finish();
            if let Err(error) = check_name(named.as_ref(), &digest, what) {
                wrong = Some(error);
                return Err(io::ErrorKind::InvalidData.into());
            }
            Ok(Descriptor::new(media_type, digest, size))
        })?;
        if let Some(error) = wrong {
            return Err(error);
        }
        Ok(match streamed.map_err(|error| given_up_or(error, what))? {
            Streamed::Whole(descriptor, arrived) => {
                self.pending.push((path.to_owned(), arrived));
                sent(*descriptor)
            }
            Streamed::Cut => Held::Lost,
        })
    }

    fn plain_layer(
        &mut self,
        path: &str,
        size: u64,
        body: &mut dyn Read,
        named: Option<Digest>,
        what: &str,
    ) -> Result<Held, SourceError> {
        let compression = self.selection.compression;
        let given_up = || self.outlet.is_closed();
        let failed = |error: io::Error| given_up_or(error, what);
        let sent = |descriptor: Descriptor, diff_id: Digest| Held::Sent {
            descriptor: descriptor.into(),
            diff_id: Some(diff_id),
        };
        if size <= SMALL {
            let (packed, bytes) = pack::to_memory(compression, body, &given_up).map_err(failed)?;
            check_name(named.as_ref(), &packed.diff_id, what)?;
            self.outlet.send(Blob::from_known(packed.descriptor.clone(), bytes))?;
            return Ok(sent(packed.descriptor, packed.diff_id));
        }
        let memo = self.selection.memo.clone();
        let expected = named.clone().or_else(|| memo.as_ref().and_then(|memo| memo.tar(path, size)));
        if let (Some(memo), Some(diff_id)) = (&memo, &expected)
            && let Some(known) = memo.packed(diff_id, compression)
            && self.outlet.is_there(path, &known)?
        {
            // It need not be packed; that it is what the memo says is still to be seen.
            let (found, _) = self.copy(body, None, &mut |_| Ok(()), what)?;
            check_name(named.as_ref(), &found, what)?;
            if found == *diff_id {
                return Ok(sent(known, found));
            }
            memo.forget_tar(path, size);
            return Ok(Held::Lost);
        }
        let (mut wrong, mut diff_id) = (None, None);
        let streamed = self.outlet.live(path, |emit| {
            let packed = pack::pack(compression, body, &given_up, emit)?;
            if let Err(error) = check_name(named.as_ref(), &packed.diff_id, what) {
                wrong = Some(error);
                return Err(io::ErrorKind::InvalidData.into());
            }
            diff_id = Some(packed.diff_id);
            Ok(packed.descriptor)
        })?;
        if let Some(error) = wrong {
            return Err(error);
        }
        match (streamed.map_err(failed)?, diff_id) {
            (Streamed::Whole(descriptor, arrived), Some(diff_id)) => {
                if let Some(memo) = &memo {
                    memo.learn(&diff_id, compression, &descriptor);
                    memo.learn_tar(path, size, &diff_id);
                }
                self.pending.push((path.to_owned(), arrived));
                Ok(sent(*descriptor, diff_id))
            }
            _ => Ok(Held::Lost),
        }
    }

    /// Copies a body, and checks it against its name where the name is a digest.
    fn copy(
        &self,
        body: &mut dyn Read,
        named: Option<&Digest>,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
        what: &str,
    ) -> Result<(Digest, u64), SourceError> {
        let mut hasher = Hasher::new(named.map_or(Algorithm::Sha256, Digest::algorithm));
        format::copy(body, &|| self.outlet.is_closed(), &mut |chunk| {
            hasher.update(chunk);
            take(chunk)
        })
        .map_err(|error| given_up_or(error, what))?;
        let size = hasher.count();
        let digest = hasher.finish();
        check_name(named, &digest, what)?;
        Ok((digest, size))
    }

    /// The manifests have come: what they need has gone out already, or waits.
    pub(crate) fn finish(&self) -> Result<Image, SourceError> {
        let index = self.small(INDEX)?;
        let manifest = self.small(classic::MANIFEST)?;
        if let Some(index) = index {
            let resolved = layout::resolve(self, index, &self.selection, &self.what);
            match resolved {
                Ok(resolved) if !self.packs || !is_plain(&resolved) => return self.send(resolved),
                Err(error) if manifest.is_none() || !self.packs => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        let manifest = manifest.ok_or_else(|| {
            self.invalid(&format!("there is neither {INDEX} nor {} in it", classic::MANIFEST))
        })?;
        let saved = classic::choose(&manifest, &self.selection, &self.what, &|path| self.small(path))?;
        let config = Blob::from_bytes(media::OCI_CONFIG, saved.config);
        let config_descriptor = config.descriptor.clone();
        self.outlet.send(config)?;
        let layers: Vec<_> = saved.layers.iter().map(|layer| self.layer(layer)).collect::<Result<_, _>>()?;
        let manifest = classic::manifest(&config_descriptor, &layers)?;
        Ok(Image { manifests: vec![manifest], name: saved.name })
    }

    fn send(&self, resolved: Resolved) -> Result<Image, SourceError> {
        for descriptor in &resolved.blobs {
            if let Some(Held::Waiting { .. }) = self.find(&layout::blob_path(&descriptor.digest)) {
                self.outlet.send(self.open(descriptor)?)?;
            }
        }
        Ok(Image { manifests: resolved.manifests, name: resolved.name })
    }

    fn layer(&self, layer: &Layer) -> Result<Descriptor, SourceError> {
        if let Some(foreign) = &layer.foreign {
            return Ok(foreign.clone());
        }
        match self.find(&layer.path) {
            Some(Held::Sent { descriptor, diff_id }) => match diff_id {
                Some(found) if *found != layer.diff_id => {
                    Err(classic::wrong_diff_id(&self.what, layer, found))
                }
                _ => Ok((**descriptor).clone()),
            },
            Some(Held::Waiting { .. } | Held::Link(_)) => {
                Err(self.invalid(&format!("the layer `{}` is neither a tar nor gzip nor zstd", layer.path)))
            }
            Some(Held::Lost) | None => Err(self.invalid(&format!("the layer `{}` is missing", layer.path))),
        }
    }

    fn find(&self, path: &str) -> Option<&Held> {
        let mut path = normal("", path)?;
        for _ in 0..MAX_LINKS {
            match self.members.get(&path)? {
                Held::Link(target) => path.clone_from(target),
                held => return Some(held),
            }
        }
        None
    }

    fn small(&self, path: &str) -> Result<Option<Bytes>, SourceError> {
        let Some(Held::Waiting { offset, size }) = self.find(path) else { return Ok(None) };
        let descriptor = Descriptor::new("", Digest::of(b""), *size);
        match Blob::from_file(descriptor, Arc::clone(&self.spool), *offset).read_whole(MAX_MANIFEST) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => Err(SourceError::Io { what: format!("{}: {path}", self.what), error }),
        }
    }
}

fn check_name(named: Option<&Digest>, found: &Digest, what: &str) -> Result<(), SourceError> {
    match named {
        Some(named) if named != found => {
            Err(SourceError::Invalid(format!("{what} is damaged: its bytes hash to {found}")))
        }
        _ => Ok(()),
    }
}

impl Contents for Stream {
    fn size(&self, digest: &Digest) -> Result<Option<u64>, SourceError> {
        Ok(match self.find(&layout::blob_path(digest)) {
            Some(Held::Waiting { size, .. }) => Some(*size),
            Some(Held::Sent { descriptor, diff_id: None }) => Some(descriptor.size),
            // What it was is gone; only its packed form was kept.
            Some(Held::Sent { diff_id: Some(_), .. } | Held::Link(_) | Held::Lost) | None => None,
        })
    }

    fn open(&self, descriptor: &Descriptor) -> Result<Blob, SourceError> {
        match self.find(&layout::blob_path(&descriptor.digest)) {
            Some(Held::Waiting { offset, .. }) => {
                Ok(Blob::from_file(descriptor.clone(), Arc::clone(&self.spool), *offset))
            }
            _ => Err(self.invalid(&format!("{} is not a manifest", descriptor.digest))),
        }
    }
}
