//go:build tools

// Package olla pins Olla, one of the contestants.
package olla

import _ "github.com/thushan/olla"
