//go:build tools

// Package launcher pins the Ollama that the launcher builds, so that go.sum
// holds the checksum of every source file that goes into it.
package launcher

import _ "github.com/ollama/ollama"
