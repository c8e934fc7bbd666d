module idp.test/peers/docker_auth

go 1.26

tool github.com/cesanta/docker_auth/auth_server

require github.com/cesanta/docker_auth/auth_server v0.0.0-20260303230752-c67e1750ff5e

// A database driver that nothing here uses, and that xorm only names.
replace gitee.com/travelliu/dm => ./nothing
