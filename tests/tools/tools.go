//go:build tools

// Package tools pins the Go programs that the tests use.
package tools

import _ "github.com/fullstorydev/grpcurl/cmd/grpcurl"
