// flux-fetch REPOSITORY REFERENCE: what Flux's source-controller makes of an OCIRepository without a layerSelector.
//
// REPOSITORY is `host:port/name`, asked over plain HTTP where it is on loopback; REFERENCE is a tag or a digest. The steps
// and the options are those of `reconcileSource` and `reconcileArtifact` of source-controller v1.9, with the libraries that
// it names: go-containerregistry for the pull, fluxcd/pkg/tar for layers[0], fluxcd/pkg/sourceignore for what is left out
// (`dropped`) where the tree is archived for the other controllers.
package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/fluxcd/pkg/sourceignore"
	"github.com/fluxcd/pkg/tar"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func main() {
	if len(os.Args) != 3 {
		fail(errors.New("usage: flux-fetch REPOSITORY REFERENCE"))
	}
	scratch, err := os.MkdirTemp("", "flux-fetch")
	if err != nil {
		fail(err)
	}
	fetched := fetch(os.Args[1], os.Args[2], scratch)
	if err := os.RemoveAll(scratch); err != nil {
		fail(err)
	}
	answer(fetched)
}

func fetch(repository, reference, scratch string) Fetched {
	fetched := Fetched{Consumer: consumer()}
	refused := func(step string, err error) Fetched {
		fetched.Error = &Failure{Step: step, Message: err.Error()}
		return fetched
	}
	separator := ":"
	if strings.HasPrefix(reference, "sha256:") {
		separator = "@"
	}
	parsed, err := name.ParseReference(repository+separator+reference, name.Insecure)
	if err != nil {
		return refused("resolve", err)
	}
	image, err := remote.Image(parsed)
	if err != nil {
		return refused("resolve", err)
	}
	digest, err := image.Digest()
	if err != nil {
		return refused("resolve", err)
	}
	fetched.Revision = digest.String()
	manifest, err := image.Manifest()
	if err != nil {
		return refused("manifest", err)
	}
	fetched.Annotations = manifest.Annotations
	layers, err := image.Layers()
	if err != nil {
		return refused("manifest", err)
	}
	if len(layers) < 1 {
		return refused("manifest", errors.New("no layers found in artifact"))
	}
	blob, err := layers[0].Compressed()
	if err != nil {
		return refused("extract", err)
	}
	defer blob.Close()
	if err := tar.Untar(blob, scratch, tar.WithMaxUntarSize(-1), tar.WithSkipSymlinks()); err != nil {
		return refused("extract", err)
	}
	if fetched.Tree, err = treeOf(scratch); err != nil {
		fail(err)
	}
	domain := strings.Split(scratch, string(filepath.Separator))
	patterns, err := sourceignore.LoadIgnorePatterns(scratch, domain)
	if err != nil {
		return refused("extract", err)
	}
	matcher := sourceignore.NewDefaultMatcher(patterns, domain)
	for i := range fetched.Tree {
		entry := &fetched.Tree[i]
		path := strings.Split(filepath.Join(scratch, entry.Path), string(filepath.Separator))
		entry.Dropped = matcher.Match(path, entry.Kind == "directory")
	}
	return fetched
}

func consumer() string {
	const module = "github.com/fluxcd/pkg/tar"
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range build.Deps {
			if dependency.Path == module {
				return "fluxcd/pkg/tar " + dependency.Version
			}
		}
	}
	return "fluxcd/pkg/tar"
}
