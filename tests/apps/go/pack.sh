export GOCACHE=/run/layer/gocache GOPATH=/run/layer/gopath HOME=/run/layer GOTOOLCHAIN=local GOFLAGS=-buildvcs=false
CGO_ENABLED=0 go build -o shop .
