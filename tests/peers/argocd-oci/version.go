package main

import "github.com/argoproj/argo-cd/v3/util/oci"

// Since 3.3 the client calls what counts for the metrics without asking whether it is there.
func versionOptions() []oci.ClientOpts {
	count := func(string) func() { return func() {} }
	countOf := func(string) func(string) { return func(string) {} }
	return []oci.ClientOpts{oci.WithEventHandlers(oci.EventHandlers{
		OnExtract:             count,
		OnResolveRevision:     count,
		OnDigestMetadata:      count,
		OnTestRepo:            count,
		OnGetTags:             count,
		OnExtractFail:         countOf,
		OnResolveRevisionFail: countOf,
		OnDigestMetadataFail:  countOf,
		OnTestRepoFail:        count,
		OnGetTagsFail:         count,
	})}
}
