package main

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pomerium/pomerium/pkg/grpc/databroker"
	"github.com/pomerium/pomerium/pkg/grpc/session"
	"github.com/pomerium/pomerium/pkg/grpc/user"
)

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
