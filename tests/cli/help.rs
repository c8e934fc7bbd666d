//! Help and version.

use insta::assert_snapshot;

use super::sandbox;

#[test]
fn without_anything() {
    let output = sandbox().idp::<&str>([]).exits(64);
    assert!(output.stdout.is_empty() && output.stderr.contains("Usage: idp"), "{output}");
}

#[test]
fn version() {
    assert_snapshot!(sandbox().idp(["--version"]), @r#"
    exit: 0
    --- stdout
    idp 0.1.0
    --- stderr
    "#);
}

#[test]
fn short_help() {
    assert_snapshot!(sandbox().idp(["-h"]), @r#"
    exit: 0
    --- stdout
    OCI registries for Internal Developer Platforms

    Usage: idp [OPTIONS] <COMMAND>

    Commands:
      push         Push an image, an OCI layout, an archive or a directory to a registry
      pull         Pull an image or an artifact from a registry
      copy         Copy from one registry to another, or to several, without the disk
      list         List the repositories of a registry, or the tags of a repository
      search       Search repositories, on several registries at once
      inspect      Show what a reference names: manifest, platforms, layers, labels, referrers
      delete       Delete a tag, a digest, or a whole repository
      login        Check credentials with a registry, then keep them
      logout       Forget the credentials of a registry
      package      Make packages of manifests, charts and Applications, and move them
      registry     Run the embedded registry, or find out what kind a registry is and how it does
      cache        See what is kept of what was pulled, and make room
      provider     See which providers there are, and which one is chosen and why
      completions  Print a completion script for a shell

    Options:
      -h, --help     Print help (see more with '--help')
      -V, --version  Print version

    Global options:
          --output <FORMAT>    How results are printed: stdout carries the result and nothing else
                               [default: text] [possible values: text, json]
          --log-level <LEVEL>  How much is logged to stderr; debug shows every request [env: IDP_LOG]
                               [possible values: error, warn, info, debug, trace]
          --color <WHEN>       Whether stderr is coloured; NO_COLOR is honoured [default: auto]
                               [possible values: auto, always, never]
      -q, --quiet              No progress and no notes
      -v, --verbose...         Log more: -v is --log-level debug, -vv is trace

    Examples:
      idp push app:1.0 registry.example/team/app:1.0
      idp pull registry.example/team/app:1.0 oci:./app

    Exit codes: 0 done, 1 failed, 2 not found, 3 authentication or permission, 4 network or registry
    (worth trying again), 64 usage, 70 a bug, 130 and 143 interrupted
    --- stderr
    "#);
}

#[test]
fn push_in_short() {
    assert_snapshot!(sandbox().idp(["push", "-h"]), @r#"
    exit: 0
    --- stdout
    Push an image, an OCI layout, an archive or a directory to a registry

    Usage: idp push [OPTIONS] <SOURCE> [DEST]...

    Arguments:
      <SOURCE>   An image of the Docker daemon (app:1.0), oci:DIR[:TAG], oci-archive:FILE[:TAG],
                 docker-archive:FILE[:NAME], or a path: a layout, an archive, or a directory that is
                 pushed as it is
      [DEST]...  Where to: a reference, or repository[:tag] in the default registry; the source's own
                 name unless given. Several take what is read and compressed once

    Options:
          --platform <PLATFORM>      Only this platform of a multi-platform image: os/arch[/variant]
          --mount-from <REPOSITORY>  Mount blobs from this repository of the same registry instead of
                                     sending them; may be given several times
          --include-foreign          Get layers that are not to be distributed from the URLs that the
                                     manifest gives, and send them as well
          --create [<WHAT>]          What may be made at the registry: nothing; the repository, where
                                     the product wants it made (unless given); or its project or
                                     organisation as well (`--create` alone) [possible values: never,
                                     repository, parent]
          --visibility <WHO>         Who may see what is made: the product's private unless given
                                     [possible values: private, public]
          --compress <HOW>           What becomes of layers that are plain tars (from the Docker daemon,
                                     and of directories); `keep` leaves everything as the source has it,
                                     its manifests included [default: gzip] [possible values: gzip,
                                     zstd, none, keep]
          --dry-run                  Say what would be pushed and made, and write nothing
          --plan                     Ask the registry what it has, say exactly which requests and bytes
                                     would go, and write nothing
      -h, --help                     Print help (see more with '--help')

    Registry options:
      -r, --registry <REGISTRY>      Registry of names that have none: host[:port] or a URL [env:
                                     IDPBUILDER_REGISTRY_URL]
      -u, --username <USER>          User name [env: IDPBUILDER_REGISTRY_USERNAME]
      -p, --password <PASSWORD>      Password; other users of this machine may see it, so prefer
                                     --password-stdin [env: IDPBUILDER_REGISTRY_PASSWORD]
          --password-stdin           Read the password from stdin
      -t, --token <TOKEN>            Token: with a user it is sent as that user's password, alone as a
                                     bearer token [env: IDPBUILDER_REGISTRY_TOKEN]
          --insecure                 Allow plain HTTP and certificates that do not verify [env:
                                     IDPBUILDER_REGISTRY_INSECURE]
          --allow-private-redirects  Follow the registry to private addresses where it is not itself
          --provider <NAME|PATH>     Provider to use: a name, the path of a component, or `none` for the
                                     specification's own behaviour
          --grant <GRANT>            Allow the provider something that its manifest asks for:
                                     egress=ORIGIN [METHOD,METHOD] [/PATH]

    Global options:
          --output <FORMAT>    How results are printed: stdout carries the result and nothing else
                               [default: text] [possible values: text, json]
          --log-level <LEVEL>  How much is logged to stderr; debug shows every request [env: IDP_LOG]
                               [possible values: error, warn, info, debug, trace]
          --color <WHEN>       Whether stderr is coloured; NO_COLOR is honoured [default: auto]
                               [possible values: auto, always, never]
      -q, --quiet              No progress and no notes
      -v, --verbose...         Log more: -v is --log-level debug, -vv is trace

    Examples:
      idp push app:1.0 registry.example/team/app:1.0      an image of the Docker daemon
      idp push oci:./layout:1.0 team/app:1.0 -r localhost:[PORT]
      idp push docker-archive:app.tar registry.example/team/app
      idp push ./manifests registry.example/team/manifests:1.2.0
      idp push app:1.0 registry.example/new-project/app:1.0 --create --visibility private
      idp push app:1.0 one.example/app:1.0 two.example/app:1.0   read and compressed once
      idp push app:1.0 registry.example/app:1.0 --plan           the requests that would go

    A name that is no path is an image of the Docker daemon; docker-daemon:NAME says so. Stdout holds
    one line, registry/repository@digest.
    --- stderr
    "#);
}
