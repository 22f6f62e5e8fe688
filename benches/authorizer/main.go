// A trivial external authorizer in grpc-go: every check is answered with OK, and nothing is looked at. It stands for
// what an authorizer in Go costs at the least; the benchmark drives it beside ours.
package main

import (
	"context"
	"fmt"
	"log"
	"net"

	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
)

type authorizer struct {
	auth.UnimplementedAuthorizationServer
}

func (authorizer) Check(context.Context, *auth.CheckRequest) (*auth.CheckResponse, error) {
	return &auth.CheckResponse{
		Status:       &status.Status{},
		HttpResponse: &auth.CheckResponse_OkResponse{OkResponse: &auth.OkHttpResponse{}},
	}, nil
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	server := grpc.NewServer()
	auth.RegisterAuthorizationServer(server, authorizer{})
	log.Fatal(server.Serve(listener))
}
