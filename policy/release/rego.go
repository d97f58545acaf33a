package release

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/hallmark-pki/hallmark/policy/rego"
)

// Rego is the Language of package policy/rego.
type Rego struct {
	// Trust says whose signatures a proposed bundle may carry: one of them has to accept it as it is,
	// signed or not. Without any, signatures are not looked at. It may be nil.
	Trust func() []*rego.Trust
}

var _ Language = Rego{}

// regoRules are an engine with the settings of its data.
type regoRules struct {
	*rego.Engine
	settings map[string]any
}

// Settings implements Rules.
func (r *regoRules) Settings() map[string]any { return r.settings }

// Load implements Language.
func (Rego) Load(ctx context.Context, bundle []byte) (Rules, error) {
	b, err := rego.ReadBundle(bundle, nil)
	if err != nil {
		return nil, err
	}
	engine, err := b.Load(ctx)
	if err != nil {
		return nil, err
	}
	return &regoRules{engine, b.Settings()}, nil
}

// Vet implements Language.
func (l Rego) Vet(ctx context.Context, bundle []byte) (Report, error) {
	var problems rego.Problems
	b, err := l.read(bundle)
	if err == nil {
		_, err = b.Load(ctx)
	}
	if errors.As(err, &problems) {
		return reportOf(&rego.Report{Problems: problems}), nil
	}
	if err != nil {
		return Report{}, err
	}
	found, err := rego.Vet(ctx, b, rego.Gate{})
	if err != nil {
		return Report{}, err
	}
	return reportOf(&found), nil
}

// read reads a bundle whose signature, if it has one, is to be trusted.
func (l Rego) read(bundle []byte) (*rego.Bundle, error) {
	if l.Trust == nil {
		return rego.ReadBundle(bundle, nil)
	}
	var refused error
	for _, t := range l.Trust() {
		b, err := rego.ReadBundle(bundle, t)
		if err == nil {
			return b, nil
		}
		refused = cmp.Or(refused, err)
	}
	return nil, refused
}

// maxProblems bounds what a report lists.
const maxProblems = 200

// reportOf is a report as it is kept.
func reportOf(found *rego.Report) Report {
	report := Report{Passed: found.Passed(), Digest: found.Digest, Tests: len(found.Tests.Cases), Coverage: found.Tests.Coverage}
	for i, p := range found.Problems {
		if i == maxProblems {
			report.Problems = append(report.Problems, fmt.Sprintf("and %d more", len(found.Problems)-i))
			break
		}
		report.Problems = append(report.Problems, p.String())
	}
	for _, c := range found.Tests.Cases {
		if !c.Passed && !c.Skipped && len(report.Failed) < maxProblems {
			report.Failed = append(report.Failed, c.Name)
		}
	}
	return report
}
