// argocd-oci REPOSITORY REVISION: what Argo CD's repo-server makes of an OCI source, by its own client (`util/oci`).
//
// REPOSITORY is `host:port/name`, asked over plain HTTP (`insecureOCIForceHttp`); REVISION is what stands in
// `targetRevision`: a tag, a digest or a constraint. The allowed media types and the size are the repo-server's defaults.
// What the repo-server does afterwards (it refuses links that lead out of the tree, and renders) is not part of it.
// The user and password of a repository secret are read from ARGOCD_OCI_USERNAME and ARGOCD_OCI_PASSWORD.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime/debug"

	utilio "github.com/argoproj/argo-cd/v3/util/io"
	"github.com/argoproj/argo-cd/v3/util/oci"
	log "github.com/sirupsen/logrus"
)

// The defaults of --oci-layer-media-types and --oci-manifest-max-extracted-size.
var mediaTypes = []string{
	"application/vnd.oci.image.layer.v1.tar",
	"application/vnd.oci.image.layer.v1.tar+gzip",
	"application/vnd.cncf.helm.chart.content.v1.tar+gzip",
}

const maxExtracted = 1_000_000_000

func main() {
	if len(os.Args) != 3 {
		fail(errors.New("usage: argocd-oci REPOSITORY REVISION"))
	}
	repository, revision := "oci://"+os.Args[1], os.Args[2]
	log.SetOutput(io.Discard)
	scratch, err := os.MkdirTemp("", "argocd-oci")
	if err != nil {
		fail(err)
	}
	fetched := fetch(repository, revision, scratch)
	if err := os.RemoveAll(scratch); err != nil {
		fail(err)
	}
	answer(fetched)
}

func fetch(repository, revision, scratch string) Fetched {
	fetched := Fetched{Consumer: consumer()}
	refused := func(step string, err error) Fetched {
		fetched.Error = &Failure{Step: step, Message: err.Error()}
		return fetched
	}
	creds := oci.Creds{
		InsecureHTTPOnly: true,
		Username:         os.Getenv("ARGOCD_OCI_USERNAME"),
		Password:         os.Getenv("ARGOCD_OCI_PASSWORD"),
	}
	// All that the client writes, its cache and what it extracts, lies below the scratch directory.
	if err := os.Setenv("TMPDIR", scratch); err != nil {
		fail(err)
	}
	options := append([]oci.ClientOpts{
		oci.WithImagePaths(utilio.NewRandomizedTempPaths(scratch)),
		oci.WithManifestMaxExtractedSize(maxExtracted),
	}, versionOptions()...)
	client, err := oci.NewClient(repository, creds, "", "", mediaTypes, options...)
	if err != nil {
		return refused("resolve", err)
	}
	ctx := context.Background()
	digest, err := client.ResolveRevision(ctx, revision, true)
	if err != nil {
		return refused("resolve", err)
	}
	fetched.Revision = digest
	directory, closer, err := client.Extract(ctx, digest)
	if err != nil {
		return refused("extract", err)
	}
	defer func() { _ = closer.Close() }()
	if fetched.Tree, err = treeOf(directory); err != nil {
		fail(err)
	}
	// 3.1 finds the manifest in what it extracted before.
	manifest, err := client.DigestMetadata(ctx, digest)
	if err != nil {
		return refused("manifest", err)
	}
	fetched.Annotations = manifest.Annotations
	return fetched
}

func consumer() string {
	const module = "github.com/argoproj/argo-cd/v3"
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range build.Deps {
			if dependency.Path == module {
				return "argo-cd " + dependency.Version
			}
		}
	}
	return "argo-cd"
}
