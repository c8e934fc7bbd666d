// What idpbuilder makes of package directories, by its own code: the reconcilers behind `idpbuilder create -p DIR`, over an API
// server in memory. Reads the directories named on the command line, and prints as JSON which CustomPackage each file became, which
// directories it would push to which Git repositories, and the Applications and ApplicationSets it would create in the cluster.
//
// Not taken part in: kind, the core packages, and the push to Gitea; its place takes a made-up URL for every repository.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"

	argov1alpha1 "github.com/cnoe-io/argocd-api/api/argo/application/v1alpha1"
	"github.com/cnoe-io/idpbuilder/api/v1alpha1"
	"github.com/cnoe-io/idpbuilder/globals"
	"github.com/cnoe-io/idpbuilder/pkg/controllers/custompackage"
	"github.com/cnoe-io/idpbuilder/pkg/controllers/localbuild"
	"github.com/cnoe-io/idpbuilder/pkg/k8s"
	"github.com/cnoe-io/idpbuilder/pkg/util"
	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

const name = "localdev"

type customPackage struct {
	File        string `json:"file"`
	Kind        string `json:"kind"`
	Application string `json:"application"`
	Synced      bool   `json:"synced"`
	Error       string `json:"error,omitempty"`
}

type repository struct {
	Name string `json:"name"`
	Path string `json:"path"`
}

type application struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	Spec any    `json:"spec"`
}

type report struct {
	Packages     []customPackage `json:"packages"`
	Repositories []repository    `json:"repositories"`
	Applications []application   `json:"applications"`
	// What idpbuilder logs as errors, and goes on.
	Errors []string `json:"errors"`
}

func main() {
	told, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	if err := out.Encode(told); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dirs []string) (*report, error) {
	told := &report{Packages: []customPackage{}, Repositories: []repository{}, Applications: []application{}, Errors: []string{}}
	for i := range dirs {
		dir, err := filepath.Abs(dirs[i])
		if err != nil {
			return nil, err
		}
		dirs[i] = dir
	}
	ctx := logr.NewContext(context.Background(), errorsOf(told))
	scheme := k8s.GetScheme()
	build := &v1alpha1.Localbuild{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, UID: "localbuild",
			Annotations: map[string]string{v1alpha1.CliStartTimeAnnotation: "2026-01-01T00:00:00Z"},
		},
		Spec: v1alpha1.LocalbuildSpec{PackageConfigs: v1alpha1.PackageConfigsSpec{CustomPackageDirs: dirs}},
	}
	build.Status.Gitea.ExternalURL = "https://gitea.cnoe.localtest.me:8443"
	build.Status.Gitea.InternalURL = "http://my-gitea-http.gitea.svc.cluster.local:3000"
	cluster := fake.NewClientBuilder().
		WithScheme(scheme).
		WithObjects(build).
		WithStatusSubresource(&v1alpha1.Localbuild{}, &v1alpha1.CustomPackage{}, &v1alpha1.GitRepository{}).
		// Server-side apply, of an annotation that says when it ran, is unknown to the server in memory.
		WithInterceptorFuncs(interceptor.Funcs{
			Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
				return nil
			},
		}).
		Build()

	repositories := util.NewRepoLock()
	localbuilds := &localbuild.LocalbuildReconciler{Client: cluster, Scheme: scheme, RepoMap: repositories, CancelFunc: func() {}}
	request := ctrl.Request{NamespacedName: types.NamespacedName{Name: name}}
	if _, err := localbuilds.ReconcileArgoAppsWithGitea(ctx, request, build); err != nil {
		return nil, err
	}

	packages := &custompackage.Reconciler{
		Client: cluster, Scheme: scheme, RepoMap: repositories, Recorder: record.NewFakeRecorder(1000),
	}
	failed := map[string]string{}
	// Once to ask for the repositories, and once more when they have a URL.
	for range 2 {
		found := v1alpha1.CustomPackageList{}
		if err := cluster.List(ctx, &found); err != nil {
			return nil, err
		}
		for _, one := range found.Items {
			delete(failed, one.Name)
			if err := reconcile(ctx, packages, types.NamespacedName{Namespace: one.Namespace, Name: one.Name}); err != nil {
				failed[one.Name] = err.Error()
			}
		}
		if err := serve(ctx, cluster); err != nil {
			return nil, err
		}
	}
	return told, tell(ctx, cluster, dirs, failed, told)
}

// What idpbuilder dies of is an error here.
func reconcile(ctx context.Context, packages *custompackage.Reconciler, key types.NamespacedName) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("panic: %v", reason)
		}
	}()
	_, err = packages.Reconcile(ctx, ctrl.Request{NamespacedName: key})
	return err
}

// Gives every repository the URL that the controller for Git repositories would.
func serve(ctx context.Context, cluster client.Client) error {
	found := v1alpha1.GitRepositoryList{}
	if err := cluster.List(ctx, &found); err != nil {
		return err
	}
	for i := range found.Items {
		one := &found.Items[i]
		one.Status.InternalGitRepositoryUrl = fmt.Sprintf("%s/giteaAdmin/%s-%s.git", one.Spec.Provider.InternalGitURL, one.Namespace, one.Name)
		one.Status.Synced = true
		if err := cluster.Status().Update(ctx, one); err != nil {
			return err
		}
	}
	return nil
}

func tell(ctx context.Context, cluster client.Client, dirs []string, failed map[string]string, told *report) error {
	relative := func(path string) string {
		for _, dir := range dirs {
			if found, err := filepath.Rel(filepath.Dir(dir), path); err == nil && filepath.IsLocal(found) {
				return found
			}
		}
		return path
	}
	core := map[string]bool{"argocd": true, "gitea": true, "nginx": true}
	packages := v1alpha1.CustomPackageList{}
	repositories := v1alpha1.GitRepositoryList{}
	applications := argov1alpha1.ApplicationList{}
	sets := argov1alpha1.ApplicationSetList{}
	for _, list := range []client.ObjectList{&packages, &repositories, &applications, &sets} {
		if err := cluster.List(ctx, list); err != nil {
			return err
		}
	}
	for _, one := range packages.Items {
		argo := one.Spec.ArgoCD
		told.Packages = append(told.Packages, customPackage{
			File: relative(argo.ApplicationFile), Kind: argo.Type, Application: argo.Name,
			Synced: one.Status.Synced, Error: failed[one.Name],
		})
	}
	for _, one := range repositories.Items {
		if one.Spec.Source.Type == v1alpha1.SourceTypeLocal {
			told.Repositories = append(told.Repositories, repository{Name: one.Name, Path: relative(one.Spec.Source.Path)})
		}
	}
	for _, one := range applications.Items {
		if one.Namespace != globals.ArgoCDNamespace || !core[one.Name] {
			told.Applications = append(told.Applications, application{Kind: "Application", Name: one.Name, Spec: one.Spec})
		}
	}
	for _, one := range sets.Items {
		told.Applications = append(told.Applications, application{Kind: "ApplicationSet", Name: one.Name, Spec: one.Spec})
	}
	sort.Slice(told.Packages, func(a, b int) bool { return told.Packages[a].File < told.Packages[b].File })
	return nil
}

func errorsOf(told *report) logr.Logger {
	return funcr.New(func(_, args string) {
		if bytes.Contains([]byte(args), []byte(`"error"=`)) {
			told.Errors = append(told.Errors, args)
		}
	}, funcr.Options{})
}
