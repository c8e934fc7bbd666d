//! What ECR's refusals mean. Those of the registry have the specification's codes and texts of their own; those of the API become
//! errors in `api`, and are known here as well, for answers that pass them on.

use idp_provider_sdk::invocation::Answer;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::refusal;
use idp_provider_sdk::standard::{self, explanation};

use crate::api::{KMS, Refusal};
use crate::place::Place;

/// What a push needs.
pub(crate) const PUSH: &[&str] = &[
    "BatchCheckLayerAvailability",
    "InitiateLayerUpload",
    "UploadLayerPart",
    "CompleteLayerUpload",
    "PutImage",
    "BatchGetImage",
];

/// What a pull needs.
pub(crate) const PULL: &[&str] = &["BatchGetImage", "GetDownloadUrlForLayer", "BatchCheckLayerAvailability"];

/// Explains by ECR's table first, by the specification's after it.
pub(crate) fn explain() -> Result<Explanation> {
    let subject = invocation::subject().ok_or_else(|| Error::invalid("there is nothing to explain"))?;
    let place = Place::here()?;
    ecr(&subject, &place)
        .or_else(|| standard::explain(&subject))
        .ok_or_else(|| Error::unsupported("the registry's own text says it best"))
}

fn ecr(answer: &Answer, place: &Place) -> Option<Explanation> {
    let body = answer.body.trim();
    let first = refusal::parse(body).into_iter().next().unwrap_or_default();
    let kind = Refusal::parse(body).kind;
    let repository = standard::repository(answer.path()).unwrap_or("the repository");
    let writes = !matches!(answer.method.as_str(), "GET" | "HEAD");
    let code = if kind.is_empty() { first.code.as_str() } else { kind.as_str() };
    Some(match (answer.status, code) {
        (400 | 403, _) if body.contains("authorization token has expired") => expired(place),
        (_, "ExpiredTokenException" | "ExpiredToken") => explanation(
            "credentials-expired",
            "The AWS credentials have expired",
            "session credentials end with their session",
            &["get new ones: `aws sso login`, or take the role again"],
        ),
        (_, "UnrecognizedClientException" | "InvalidClientTokenId") => explanation(
            "bad-credentials",
            "AWS does not know the access key",
            "it was deleted or switched off, or belongs to another partition",
            &["check `aws sts get-caller-identity`"],
        ),
        (_, "InvalidSignatureException" | "SignatureDoesNotMatch" | "RequestExpired") => explanation(
            "clock-skew",
            "AWS does not accept the signature",
            "this machine's clock is more than five minutes off, or the secret key is not that of the access key",
            &["set the clock (timedatectl, chronyc tracking)", "check the secret access key"],
        ),
        (_, "KmsException") | (400 | 403, _)
            if kind == "KmsException" || body.contains("KmsException") || body.contains("kms:") =>
        {
            explanation(
                "no-permission",
                "The KMS key of the repository cannot be used",
                refusal::text(body),
                &[KMS],
            )
        }
        (403, _)
            if body.contains("not authorized to perform")
                || code == "DENIED"
                || code == "AccessDeniedException" =>
        {
            permission(body, place, repository, writes)
        }
        (403, "") if body.is_empty() => explanation(
            "no-permission",
            format!("No permission to read {repository}"),
            "the registry refuses without a word when the identity lacks the permissions of a pull",
            &[&format!("allow {} on the repository", place.actions(PULL))],
        ),
        (401, _) => not_logged_in(place),
        (404, "NAME_UNKNOWN" | "RepositoryNotFoundException") => missing(place, repository),
        (_, "TAG_INVALID" | "ImageTagAlreadyExistsException")
            if body.contains("immutable") || kind.starts_with("ImageTag") =>
        {
            explanation(
                "immutable",
                format!("The tags of {repository} cannot be overwritten"),
                "the repository is immutable, and this tag has another image already",
                &["push under a new tag", "or delete the tag first, or make the repository mutable"],
            )
        }
        (429, _) | (_, "TOOMANYREQUESTS" | "ThrottlingException") => throttled(place),
        (_, "LayerPartTooSmallException" | "InvalidLayerPartException") => explanation(
            "unsupported",
            "The registry does not take the upload in these parts",
            "parts have 5 to 10 MiB and follow one another without a gap; idp sends layers whole unless it is told otherwise",
            &[
                "leave out what sets chunks for this registry",
                "if nothing does, this is a bug of idp: please report it",
            ],
        ),
        (_, "ImageReferencedByManifestList") => explanation(
            "policy-blocked",
            "The image is part of an index",
            "what an index refers to cannot be deleted before it",
            &["delete the index first"],
        ),
        (405, _) if answer.method == "PUT" && answer.path().contains("/manifests/") => explanation(
            "unsupported",
            "The registry does not take this manifest with a subject",
            "some referrers are refused with 405, although ECR has the referrers API",
            &["push it without a subject, under a tag `sha256-…` of the subject's digest"],
        ),
        (405, _) if answer.method == "DELETE" => explanation(
            "unsupported",
            "The registry deletes by its API only",
            "DELETE of the distribution API is not dependable at ECR",
            &["use `idp delete`, with AWS credentials"],
        ),
        (400 | 415, "UNSUPPORTED" | "MANIFEST_INVALID") if body.contains("Invalid JSON syntax") => {
            explanation(
                "unsupported",
                "The registry does not take this manifest",
                "ECR refuses manifests without a top-level mediaType, with this text",
                &["add `mediaType` to the manifest"],
            )
        }
        // The size itself is in the query, which the host keeps to itself.
        (400, "UNSUPPORTED") if is_list(answer.path()) => explanation(
            "unsupported",
            "The registry refuses pages of this size",
            "ECR lists at most 1000 at a time",
            &["ask for smaller pages"],
        ),
        (_, "LimitExceededException") => explanation(
            "quota",
            "A quota of the account is used up",
            refusal::text(body),
            &["delete what is not needed", "ask for a higher quota (Service Quotas, Amazon ECR)"],
        ),
        _ => return None,
    })
}

fn is_list(path: &str) -> bool {
    path.ends_with("/tags/list") || path.ends_with("/_catalog")
}

fn expired(place: &Place) -> Explanation {
    crate::login::forget();
    let registry = invocation::registry();
    let stored = invocation::credential("registry").is_none_or(|credential| credential.kind != "aws-keys");
    let login = format!(
        "run `aws ecr get-login-password --region {} | idp login {registry} --username AWS --password-stdin`",
        place.region
    );
    let fix = if stored { login.as_str() } else { "run the command again: idp gets a new token" };
    let mut it = explanation(
        "credentials-expired",
        "The token has ended",
        "ECR's tokens are good for 12 hours, and not longer than the session that they were got with",
        &[fix],
    );
    it.retryable = Some(!stored);
    it
}

fn not_logged_in(place: &Place) -> Explanation {
    let registry = invocation::registry();
    if place.is_public() {
        return explanation(
            "not-logged-in",
            format!("{registry} wants a token"),
            "even pulling as nobody takes one, and pushing takes AWS credentials",
            &["set AWS credentials up (AWS_PROFILE, `aws sso login`)"],
        );
    }
    let known = invocation::credential("registry").is_some();
    explanation(
        if known { "bad-credentials" } else { "not-logged-in" },
        format!("{registry} does not know who is asking"),
        format!(
            "there are no credentials, the token is older than 12 hours, or it is for another region than the name says ({})",
            place.words()
        ),
        &[
            "compare account and region with `aws sts get-caller-identity`",
            &format!(
                "log in again: AWS credentials, or `aws ecr get-login-password --region {} | idp login {registry} --username AWS \
                 --password-stdin`",
                place.region
            ),
        ],
    )
}

fn missing(place: &Place, repository: &str) -> Explanation {
    if place.is_public() {
        return explanation(
            "missing-repository",
            format!("{repository} does not exist at ECR Public"),
            "public repositories are made before the first push, and the alias is that of one account",
            &[
                "`idp push` makes it, with ecr-public:CreateRepository and the alias of your own account",
                "check the spelling of alias and repository",
            ],
        );
    }
    explanation(
        "missing-repository",
        format!("{repository} does not exist in {}", place.words()),
        "repositories are made before the first push, unless a creation template of the account (CREATE_ON_PUSH) makes them",
        &[
            "`idp push` makes it, with the permission ecr:CreateRepository",
            "or add a repository creation template with CREATE_ON_PUSH for its prefix",
            "check account and region in the registry's name",
        ],
    )
}

/// IAM says which action is missing first; who pushes needs the others as well.
fn permission(body: &str, place: &Place, repository: &str, writes: bool) -> Explanation {
    let quoted = body.split_once("perform: ").and_then(|(_, rest)| rest.split_whitespace().next());
    let missing = quoted.map(|action| action.trim_end_matches(['"', '.', ',', '}', ']']));
    let (verb, all) = if writes { ("push", PUSH) } else { ("pull", PULL) };
    let first = match missing {
        Some(action) => format!("{action} is not allowed"),
        None => format!("the identity may not {verb}"),
    };
    explanation(
        "no-permission",
        format!("No permission to {verb} {repository}"),
        format!("{first} by the identity's policies or the repository's: {}", refusal::text(body)),
        &[
            &format!("allow {} on the repository to {verb}", place.actions(all)),
            &format!(
                "and {} on *; across accounts, the repository's policy must allow the identity too",
                place.actions(&["GetAuthorizationToken"])
            ),
        ],
    )
}

fn throttled(place: &Place) -> Explanation {
    let mut it = if place.is_public() {
        explanation(
            "throttled",
            "ECR Public has had too many requests",
            "without AWS credentials it is about one pull a second, and 500 GB a month for an address",
            &["set AWS credentials up", "try again later"],
        )
    } else {
        explanation(
            "throttled",
            "ECR has had too many requests",
            "every action has a limit by account and region",
            &["try again later", "let fewer pushes and pulls run at the same time"],
        )
    };
    it.retryable = Some(true);
    it
}
