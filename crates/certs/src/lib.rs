//! Certificates: the store, choice by SNI, generated and derived certificates, the local authority.
