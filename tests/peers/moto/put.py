"""Puts images into moto, as the registry that moto lacks would have: they are listed and deleted by the API then.

Usage: put.py ADDRESS ACCESS_KEY_ID SECRET_ACCESS_KEY REGION REPOSITORY TAG=CONTENT …

The repository is made when it is missing. The same content is the same image under another tag.
"""

import hashlib
import json
import sys

import boto3


def manifest(content):
    """An image of one layer; moto takes the digests of the layers for the image's own."""
    digest = "sha256:" + hashlib.sha256(content.encode()).hexdigest()
    entry = {"digest": digest, "size": len(content)}
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **entry},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **entry}],
        }
    )


def main():
    address, key, secret, region, repository, *images = sys.argv[1:]
    ecr = boto3.client(
        "ecr",
        endpoint_url=f"http://{address}",
        region_name=region,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )
    try:
        ecr.create_repository(repositoryName=repository)
    except ecr.exceptions.RepositoryAlreadyExistsException:
        pass
    for image in images:
        tag, content = image.split("=", 1)
        ecr.put_image(repositoryName=repository, imageManifest=manifest(content), imageTag=tag)


if __name__ == "__main__":
    main()
