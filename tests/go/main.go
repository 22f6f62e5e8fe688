// Talks to a databroker with the client packages of the original: what they read and write must mean the same here.
//
// Arguments: the address of a databroker, the shared secret in base64 and, for TLS with a certificate that is derived
// from the secret, the name in it. Each step that holds prints a line; the first that does not ends the program with
// what was expected.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"time"

	grpclib "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/pomerium/pomerium/pkg/derivecert"
	"github.com/pomerium/pomerium/pkg/grpc"
	"github.com/pomerium/pomerium/pkg/grpc/databroker"
)

func main() {
	key, err := base64.StdEncoding.DecodeString(os.Args[2])
	check("the shared secret", err)
	// What is waited for comes in time, or the program ends here.
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var options []grpclib.DialOption
	if len(os.Args) > 3 {
		options = append(options, grpclib.WithTransportCredentials(derived(key, os.Args[3])))
	}
	conn := connect(ctx, key, options)
	client := databroker.NewDataBrokerServiceClient(conn)

	records(ctx, client)
	people(ctx, client)
	changes(ctx, client)
	copies(ctx, client)
	reconciled(ctx, client)
	leases(ctx, client)
	services(ctx, conn)
	strangers(ctx, options)
}

func connect(ctx context.Context, key []byte, options []grpclib.DialOption) *grpclib.ClientConn {
	conn, err := grpc.NewGRPCClientConn(ctx, &grpc.Options{Address: os.Args[1], SignedJWTKey: key}, options...)
	check("the connection", err)
	return conn
}

// derived trusts the authority that the original derives from the secret, and no other.
func derived(key []byte, name string) credentials.TransportCredentials {
	authority, err := derivecert.NewCA(key)
	check("the authority", err)
	certificate, err := authority.PEM()
	check("the certificate of the authority", err)
	roots := x509.NewCertPool()
	expect("a certificate of the authority", roots.AppendCertsFromPEM(certificate.Cert), string(certificate.Cert))
	return credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12})
}

// strangers get nothing.
func strangers(ctx context.Context, options []grpclib.DialOption) {
	client := databroker.NewDataBrokerServiceClient(connect(ctx, make([]byte, 32), options))
	_, err := client.ListTypes(ctx, new(emptypb.Empty))
	expect("a stranger is refused", status.Code(err) == codes.Unauthenticated, err)
}

func check(what string, err error) {
	if err != nil {
		fmt.Printf("FAILED %s: %v\n", what, err)
		os.Exit(1)
	}
}

func expect(what string, holds bool, seen any) {
	if !holds {
		fmt.Printf("FAILED %s: %v\n", what, seen)
		os.Exit(1)
	}
	fmt.Printf("ok %s\n", what)
}
