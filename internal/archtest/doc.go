// Package archtest holds the plan of the house as a test: which room may import
// which, where each dependency is a guest, and the rules of style that a
// program can check. A new edge is a row in the plan with its reason.
package archtest
