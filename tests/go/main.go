// Talks to a databroker with the client packages of the original: what they read and write must mean the same here.
//
// Arguments: the address of a plain-text databroker, and the shared secret in base64. Each step that holds prints a
// line; the first that does not ends the program with what was expected.
package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pomerium/pomerium/pkg/grpc"
	"github.com/pomerium/pomerium/pkg/grpc/databroker"
	"github.com/pomerium/pomerium/pkg/grpc/session"
	"github.com/pomerium/pomerium/pkg/grpc/user"
)

func main() {
	key, err := base64.StdEncoding.DecodeString(os.Args[2])
	check("the shared secret", err)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	conn, err := grpc.NewGRPCClientConn(ctx, &grpc.Options{Address: os.Args[1], SignedJWTKey: key})
	check("the connection", err)
	client := databroker.NewDataBrokerServiceClient(conn)

	records(ctx, client)
	changes(ctx, client)
	leases(ctx, client)
	strangers(ctx, os.Args[1])
}

// records writes, reads, asks for and patches records.
func records(ctx context.Context, client databroker.DataBrokerServiceClient) {
	written, err := databroker.Put(ctx, client,
		&session.Session{Id: "s1", UserId: "u1", ExpiresAt: timestamppb.New(time.Now().Add(time.Hour))},
		&user.User{Id: "u1", Name: "Developer", Email: "developer@example.com"})
	check("put", err)
	expect("put", len(written.Records) == 2 && written.Records[1].Version > written.Records[0].Version, written)

	read := &session.Session{Id: "s1"}
	check("get", databroker.Get(ctx, client, read))
	expect("get", read.UserId == "u1", read)
	expect("a record that is not there", databroker.IsNotFound(databroker.Get(ctx, client, &user.User{Id: "nobody"})), nil)

	filter, err := structpb.NewStruct(map[string]any{"id": "u1"})
	check("a filter", err)
	found, err := client.Query(ctx, &databroker.QueryRequest{
		Type: written.Records[1].Type, Query: "DEVELOPER@example", Filter: filter, Limit: 10,
	})
	check("query", err)
	expect("query", found.TotalCount == 1 && found.Records[0].Id == "u1", found)

	change := databroker.NewRecord(&user.User{Id: "u1", Name: "Another Name", Email: "left alone"})
	patched, err := client.Patch(ctx, &databroker.PatchRequest{
		Records: []*databroker.Record{change}, FieldMask: &fieldmaskpb.FieldMask{Paths: []string{"name"}},
	})
	check("patch", err)
	expect("patch", len(patched.Records) == 1, patched)
	after := &user.User{Id: "u1"}
	check("get after patch", databroker.Get(ctx, client, after))
	expect("patch of one field", after.Name == "Another Name" && after.Email == "developer@example.com", after)
}

// follower collects what a syncer tells it.
type follower struct {
	client  databroker.DataBrokerServiceClient
	cleared chan struct{}
	updates chan *databroker.Record
}

func (f *follower) GetDataBrokerServiceClient() databroker.DataBrokerServiceClient { return f.client }

func (f *follower) ClearRecords(context.Context) { f.cleared <- struct{}{} }

func (f *follower) UpdateRecords(_ context.Context, _ uint64, records []*databroker.Record) {
	for _, record := range records {
		f.updates <- record
	}
}

// changes follows the records through an update and a deletion.
func changes(ctx context.Context, client databroker.DataBrokerServiceClient) {
	f := &follower{client: client, cleared: make(chan struct{}, 8), updates: make(chan *databroker.Record, 64)}
	kind := databroker.NewRecord(&user.User{}).Type
	syncer := databroker.NewSyncer(ctx, "interop", f, databroker.WithTypeURL(kind))
	go func() { _ = syncer.Run(ctx) }()
	<-f.cleared
	first := <-f.updates
	expect("the first records", first.Id == "u1" && first.DeletedAt == nil, first)

	_, err := databroker.Put(ctx, client, &user.User{Id: "u2"})
	check("put while followed", err)
	second := <-f.updates
	expect("an update", second.Id == "u2" && second.Version > first.Version, second)

	gone := databroker.NewRecord(&user.User{Id: "u2"})
	gone.DeletedAt = timestamppb.Now()
	_, err = client.Put(ctx, &databroker.PutRequest{Records: []*databroker.Record{gone}})
	check("delete", err)
	third := <-f.updates
	expect("a deletion", third.Id == "u2" && third.DeletedAt != nil, third)
}

// leases are held by one at a time.
func leases(ctx context.Context, client databroker.DataBrokerServiceClient) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	held := make(chan struct{})
	leaser := databroker.NewLeasers("interop", 2*time.Second, client, func(ctx context.Context) error {
		close(held)
		<-ctx.Done()
		return ctx.Err()
	})
	go func() { _ = leaser.Run(ctx) }()
	<-held
	_, err := client.AcquireLease(ctx, &databroker.AcquireLeaseRequest{Name: "interop", Duration: durationpb.New(time.Second)})
	expect("a lease is held once", err != nil, err)
}

// strangers get nothing.
func strangers(ctx context.Context, address string) {
	conn, err := grpc.NewGRPCClientConn(ctx, &grpc.Options{Address: address, SignedJWTKey: make([]byte, 32)})
	check("the connection of a stranger", err)
	_, err = databroker.NewDataBrokerServiceClient(conn).ListTypes(ctx, new(emptypb.Empty))
	expect("a stranger is refused", err != nil, err)
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
