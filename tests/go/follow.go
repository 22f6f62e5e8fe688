package main

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pomerium/pomerium/pkg/grpc/databroker"
	"github.com/pomerium/pomerium/pkg/grpc/user"
	"github.com/pomerium/pomerium/pkg/pebbleutil"
	"github.com/pomerium/pomerium/pkg/synccache"
)

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

// copies keeps a copy of all records of a type that is brought up to date now and then.
func copies(ctx context.Context, client databroker.DataBrokerServiceClient) {
	db := pebbleutil.MustOpenMemory(nil)
	defer func() { _ = db.Close() }()
	cache := synccache.New(db, []byte("interop"))
	kind := databroker.NewRecord(&user.User{}).Type
	ids := func() (ids []string) {
		check("the copy", cache.Sync(ctx, client, kind))
		for record, err := range cache.Records(kind) {
			check("a record of the copy", err)
			ids = append(ids, record.Id)
		}
		return ids
	}
	first := ids()
	expect("a copy", len(first) == 1 && first[0] == "u1", first)
	_, err := databroker.Put(ctx, client, &user.User{Id: "u3"})
	check("put beside a copy", err)
	second := ids()
	expect("a copy brought up to date", len(second) == 2 && second[1] == "u3", second)

	var latest []string
	_, _, err = databroker.SyncLatestRecords(ctx, client, func(u *user.User) { latest = append(latest, u.Id) })
	check("all users", err)
	expect("all users", fmt.Sprint(latest) == fmt.Sprint(second), latest)
}

// reconciled makes the records of a type what they should be.
func reconciled(ctx context.Context, client databroker.DataBrokerServiceClient) {
	kind := databroker.NewRecord(&user.User{}).Type
	wanted := databroker.RecordSetBundle{}
	for _, name := range []string{"u1", "u4"} {
		wanted.Add(databroker.NewRecord(&user.User{Id: name, Name: "Reconciled"}))
	}
	now := func(ctx context.Context) (databroker.RecordSetBundle, error) {
		bundle, _, err := stored(ctx, client, kind)
		return bundle, err
	}
	then := func(context.Context) (databroker.RecordSetBundle, error) { return wanted, nil }
	same := func(a, b *databroker.Record) bool { return proto.Equal(a.Data, b.Data) }
	reconciler := databroker.NewReconciler(client, now, then, func([]*databroker.Record) {}, same)
	check("to reconcile", reconciler.Reconcile(ctx))
	after, count, err := stored(ctx, client, kind)
	check("all users", err)
	one, found := after.Get(kind, "u4")
	expect("records that are as wanted", count == 2 && found && same(one, wanted[kind]["u4"]), after)
}

func stored(
	ctx context.Context, client databroker.DataBrokerServiceClient, kind string,
) (databroker.RecordSetBundle, int, error) {
	records, _, _, _, err := databroker.InitialSync(ctx, client, &databroker.SyncLatestRequest{Type: kind})
	bundle := databroker.RecordSetBundle{}
	for _, record := range records {
		bundle.Add(record)
	}
	return bundle, len(records), err
}
