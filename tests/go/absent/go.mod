module github.com/pomerium/envoy-custom

go 1.26
