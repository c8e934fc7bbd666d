module idp.test/peers/zot

go 1.26.3

tool zotregistry.dev/zot/v2/cmd/zot

require zotregistry.dev/zot/v2 v2.1.20
