module idp.test/peers/harbor-api

go 1.26.3

require github.com/goharbor/go-client v0.213.1
