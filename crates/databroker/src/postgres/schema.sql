-- The layout of format 1. Texts are compared byte by byte, as in the other stores.
CREATE TABLE pomerium_rs.about (
    -- One row.
    one            boolean PRIMARY KEY DEFAULT true CHECK (one),
    server_version bigint  NOT NULL,
    latest         bigint  NOT NULL,
    trimmed        bigint  NOT NULL
);

CREATE TABLE pomerium_rs.records (
    type        text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    version     bigint           NOT NULL,
    modified_at timestamptz      NOT NULL,
    -- The sealed record.
    value       bytea            NOT NULL,
    PRIMARY KEY (type, id)
);
CREATE INDEX records_by_version ON pomerium_rs.records (type, version);

CREATE TABLE pomerium_rs.changes (
    version     bigint           PRIMARY KEY,
    type        text COLLATE "C" NOT NULL,
    modified_at timestamptz      NOT NULL,
    -- The sealed record or tombstone.
    value       bytea            NOT NULL
);

CREATE TABLE pomerium_rs.options (
    type  text COLLATE "C" PRIMARY KEY,
    value bytea NOT NULL
);

CREATE TABLE pomerium_rs.leases (
    name    text COLLATE "C" PRIMARY KEY,
    id      text        NOT NULL,
    expires timestamptz NOT NULL
);
