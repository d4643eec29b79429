//go:build tools

// Package compose pins Docker Compose, which the tests of docker-compose.yml use.
package compose

import _ "github.com/docker/compose/v2/cmd"
