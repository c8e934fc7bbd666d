//! New: a directory that is a package already, to be changed into the one that is wanted.

use std::path::{Path, PathBuf};

use idp_package::manifest::{self, Type};
use serde::Serialize;

use super::super::Error;

/// What is made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Made {
    /// The package's name.
    pub name: String,
    /// Its type.
    pub r#type: &'static str,
    /// Where it is.
    pub directory: PathBuf,
    /// The files, in the directory.
    pub files: Vec<String>,
}

const MANIFESTS: &[(&str, &str)] = &[
    (
        "idp-package.yaml",
        "apiVersion: packages.cnoe.io/v1alpha1\nkind: Package\nmetadata:\n  name: NAME\n  version: 0.1.0\n  description: What NAME does, in a sentence.\nspec:\n  type: manifests\n  content:\n    root: manifests\n  targets:\n  - name: default\n    path: .\n    namespace: NAME\n    createNamespace: true\n",
    ),
    (
        "manifests/deployment.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: NAME\n  labels:\n    app.kubernetes.io/name: NAME\nspec:\n  replicas: 1\n  selector:\n    matchLabels:\n      app.kubernetes.io/name: NAME\n  template:\n    metadata:\n      labels:\n        app.kubernetes.io/name: NAME\n    spec:\n      containers:\n      - name: NAME\n        image: registry.k8s.io/pause:3.10\n",
    ),
];

const KUSTOMIZE: &[(&str, &str)] = &[
    (
        "idp-package.yaml",
        "apiVersion: packages.cnoe.io/v1alpha1\nkind: Package\nmetadata:\n  name: NAME\n  version: 0.1.0\n  description: What NAME does, in a sentence.\nspec:\n  type: kustomize\n  content:\n    root: kustomize\n  targets:\n  - name: dev\n    path: overlays/dev\n    renderer: kustomize\n    namespace: NAME-dev\n    createNamespace: true\n  - name: prod\n    path: overlays/prod\n    renderer: kustomize\n    namespace: NAME\n    createNamespace: true\n  variants:\n  - name: dev\n    selector: {matchLabels: {env: dev}}\n    target: dev\n  - name: prod\n    selector: {matchLabels: {env: prod}}\n    target: prod\n",
    ),
    (
        "kustomize/base/kustomization.yaml",
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- deployment.yaml\n",
    ),
    (
        "kustomize/base/deployment.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: NAME\nspec:\n  replicas: 1\n  selector:\n    matchLabels:\n      app.kubernetes.io/name: NAME\n  template:\n    metadata:\n      labels:\n        app.kubernetes.io/name: NAME\n    spec:\n      containers:\n      - name: NAME\n        image: registry.k8s.io/pause:3.10\n",
    ),
    (
        "kustomize/overlays/dev/kustomization.yaml",
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- ../../base\n",
    ),
    (
        "kustomize/overlays/prod/kustomization.yaml",
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- ../../base\nreplicas:\n- name: NAME\n  count: 3\n",
    ),
];

const HELM: &[(&str, &str)] = &[
    (
        "idp-package.yaml",
        "apiVersion: packages.cnoe.io/v1alpha1\nkind: Package\nmetadata:\n  name: NAME\n  version: 0.1.0\n  description: What NAME does, in a sentence.\nspec:\n  type: helm\n  content:\n    root: chart\n",
    ),
    (
        "chart/Chart.yaml",
        "apiVersion: v2\nname: NAME\nversion: 0.1.0\ndescription: What NAME does, in a sentence.\ntype: application\n",
    ),
    ("chart/values.yaml", "replicas: 1\nimage:\n  repository: registry.k8s.io/pause\n  tag: \"3.10\"\n"),
    (
        "chart/templates/deployment.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {{ .Release.Name }}\nspec:\n  replicas: {{ .Values.replicas }}\n  selector:\n    matchLabels:\n      app.kubernetes.io/name: {{ .Release.Name }}\n  template:\n    metadata:\n      labels:\n        app.kubernetes.io/name: {{ .Release.Name }}\n    spec:\n      containers:\n      - name: main\n        image: \"{{ .Values.image.repository }}:{{ .Values.image.tag }}\"\n",
    ),
];

const ARGOCD_APPS: &[(&str, &str)] = &[
    (
        "idp-package.yaml",
        "apiVersion: packages.cnoe.io/v1alpha1\nkind: Package\nmetadata:\n  name: NAME\n  version: 0.1.0\n  description: What NAME does, in a sentence.\nspec:\n  type: argocd-apps\n",
    ),
    (
        "app.yaml",
        "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata:\n  name: NAME\n  namespace: argocd\nspec:\n  project: default\n  source:\n    repoURL: cnoe://manifests\n    targetRevision: HEAD\n    path: .\n  destination:\n    server: https://kubernetes.default.svc\n    namespace: NAME\n  syncPolicy:\n    automated: {}\n    syncOptions:\n    - CreateNamespace=true\n",
    ),
    (
        "manifests/configmap.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: NAME\ndata:\n  greeting: hello\n",
    ),
];

const BUNDLE: &[(&str, &str)] = &[(
    "idp-package.yaml",
    "apiVersion: packages.cnoe.io/v1alpha1\nkind: Package\nmetadata:\n  name: NAME\n  version: 0.1.0\n  description: What NAME brings together, in a sentence.\nspec:\n  type: bundle\n  dependencies:\n  # Beside this package in its registry; oci://registry/repository is anywhere.\n  - {name: ingress-nginx, version: \"^1.0\", repository: ./ingress-nginx}\n",
)];

fn template(kind: Type) -> &'static [(&'static str, &'static str)] {
    match kind {
        Type::Manifests => MANIFESTS,
        Type::Kustomize => KUSTOMIZE,
        Type::Helm => HELM,
        Type::ArgocdApps => ARGOCD_APPS,
        Type::Bundle => BUNDLE,
    }
}

/// Makes a package called `name` in `directory`, or in a new one of that name here.
///
/// # Errors
/// The name is none, or the directory has something in it.
pub fn new(name: &str, kind: Type, directory: Option<PathBuf>) -> Result<Made, Error> {
    let files: Vec<(&str, String)> =
        template(kind).iter().map(|(path, text)| (*path, text.replace("NAME", name))).collect();
    let text = files.iter().find(|(path, _)| *path == manifest::FILE).map(|(_, text)| text.as_str());
    manifest::parse(text.unwrap_or_default()).map_err(|error| Error::Usage(error.to_string()))?;
    let directory = directory.unwrap_or_else(|| PathBuf::from(name));
    let io = |path: &Path| {
        let what = path.display().to_string();
        move |error| Error::Io { what, error }
    };
    match std::fs::read_dir(&directory).map(|mut entries| entries.next().is_some()) {
        Ok(true) => {
            return Err(Error::Usage(format!("{} is not empty; nothing was written", directory.display())));
        }
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(&directory)(error)),
        _ => {}
    }
    for (path, text) in &files {
        let path = directory.join(path);
        let parent = path.parent().unwrap_or(&directory);
        fs_err::create_dir_all(parent).map_err(io(parent))?;
        fs_err::write(&path, text).map_err(io(&path))?;
    }
    let files = files.into_iter().map(|(path, _)| path.to_owned()).collect();
    Ok(Made { name: name.to_owned(), r#type: kind.as_str(), directory, files })
}

#[cfg(test)]
mod tests {
    use idp_package::build::Package;
    use idp_package::manifest::Type;

    #[test]
    fn what_is_new_is_a_package() {
        let directory = tempfile::tempdir().expect("a directory");
        for kind in [Type::Manifests, Type::Kustomize, Type::Helm, Type::ArgocdApps, Type::Bundle] {
            let place = directory.path().join(kind.as_str());
            let made = super::new("my-app", kind, Some(place.clone())).expect("made");
            assert_eq!(made.r#type, kind.as_str());
            Package::open(&place).expect("a package");
            assert!(super::new("my-app", kind, Some(place)).is_err(), "nothing is overwritten");
        }
        assert!(super::new("My App", Type::Manifests, Some(directory.path().join("x"))).is_err());
        assert!(!directory.path().join("x").exists());
    }
}
