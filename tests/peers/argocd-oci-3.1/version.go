package main

import "github.com/argoproj/argo-cd/v3/util/oci"

// Nothing that this version wants beyond what all have.
func versionOptions() []oci.ClientOpts { return nil }
