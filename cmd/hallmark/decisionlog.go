package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hallmark-pki/hallmark/decisionlog"
	"github.com/hallmark-pki/hallmark/policy/release"
)

// DecisionLogConfig says what is told of decisions, and to whom.
type DecisionLogConfig struct {
	URL        string            `yaml:"url"`         // of a service that takes OPA's decision log. Default none: nothing is sent
	Resource   string            `yaml:"resource"`    // path below it. Default /logs, or /logs/PARTITION
	Partition  string            `yaml:"partition"`   // Default none
	Headers    map[string]string `yaml:"headers"`     // sent with each request; ${NAME} is taken from the environment
	BearerFile string            `yaml:"bearer_file"` // holds a bearer token; read for each request
	Cert       string            `yaml:"cert"`        // client certificate, PEM
	Key        string            `yaml:"key"`         // its key, PEM
	CA         string            `yaml:"ca"`          // who vouches for the service, PEM. Default: whom the machine trusts
	Timeout    Duration          `yaml:"timeout"`     // for one request. Default 10s
	MinDelay   Duration          `yaml:"min_delay"`   // between looks at the record. Default 5s
	MaxDelay   Duration          `yaml:"max_delay"`   // longest wait after failures. Default 5m
	ChunkLimit int               `yaml:"chunk_limit"` // compressed bytes of one request. Default 262144
	Start      string            `yaml:"start"`       // of a service that was sent nothing yet: now, a time, or an entry of the record. Default now
	Labels     map[string]string `yaml:"labels"`      // of every event, beside app, id, version and instance
	Mask       []any             `yaml:"mask"`        // JSON pointers, or objects {op, path, value}. Default none
	RuleLabels *bool             `yaml:"rule_labels"` // labels of the rules that fired, for which they are asked once more. Default true
}

// Bounds of the pace: a look costs a read of the database.
const (
	leastDelay  = 100 * time.Millisecond
	mostTimeout = 2 * time.Minute
)

// check finds what can be found without opening a file.
func (c *DecisionLogConfig) check() error {
	timeout, least, most := time.Duration(c.Timeout), time.Duration(c.MinDelay), time.Duration(c.MaxDelay)
	switch {
	case timeout < 0 || timeout > mostTimeout:
		return fmt.Errorf("decision_log: timeout is at most %s", mostTimeout)
	case least != 0 && least < leastDelay:
		return fmt.Errorf("decision_log: min_delay is at least %s", leastDelay)
	case most < 0 || most != 0 && most < max(least, leastDelay):
		return errors.New("decision_log: max_delay is not less than min_delay")
	case c.ChunkLimit != 0 && c.ChunkLimit < decisionlog.LeastLimit:
		return fmt.Errorf("decision_log: chunk_limit is at least %d", decisionlog.LeastLimit)
	}
	if _, err := c.masks(); err != nil {
		return err
	}
	if _, err := c.start(); err != nil {
		return err
	}
	if c.URL == "" {
		return nil
	}
	plain := decisionlog.Address{URL: c.URL, Resource: c.Resource, Partition: c.Partition, Headers: c.Headers}
	if _, err := decisionlog.NewSink(plain); err != nil {
		return fmt.Errorf("decision_log: %w", err)
	}
	return nil
}

func (c *DecisionLogConfig) masks() ([]decisionlog.Mask, error) {
	masks := make([]decisionlog.Mask, len(c.Mask))
	for i, v := range c.Mask {
		var err error
		if masks[i], err = decisionlog.ParseMask(v); err != nil {
			return nil, fmt.Errorf("decision_log: %w", err)
		}
	}
	return masks, nil
}

func (c *DecisionLogConfig) start() (decisionlog.Start, error) {
	if c.Start == "" || c.Start == "now" {
		return decisionlog.Start{}, nil
	}
	if n, err := strconv.ParseInt(c.Start, 10, 64); err == nil && n >= 0 {
		return decisionlog.Start{Index: &n}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, c.Start); err == nil {
			return decisionlog.Start{At: at}, nil
		}
	}
	return decisionlog.Start{}, fmt.Errorf("decision_log: start: %q is neither now nor a time such as 2026-01-31T12:00:00Z nor the number of an entry", c.Start)
}

// openDecisionLog makes the forwarder, which waits until there is a sink.
func (h *house) openDecisionLog(context.Context) error {
	process := "embedded" // it has the database to itself, and goes on at once after a crash
	if h.config.Database.URL != "" {
		process = rand.Text()
	}
	h.forwarder = &decisionlog.Forwarder{Record: h.db, Shifts: h.db, Process: process, Now: time.Now, Log: h.log, Observe: h.metrics.forwarding()}
	h.recall = &release.Memory{Running: h.rules}
	return h.planDecisionLog(&h.config.DecisionLog)
}

// redirectDecisionLog reads decision_log anew. What cannot be read changes nothing.
func (h *house) redirectDecisionLog() error {
	config, err := h.options.read()
	if err != nil {
		return err
	}
	return h.planDecisionLog(&config.DecisionLog)
}

// planDecisionLog puts the configuration in force.
func (h *house) planDecisionLog(c *DecisionLogConfig) error {
	p := decisionlog.Plan{Min: time.Duration(c.MinDelay), Max: time.Duration(c.MaxDelay), Limit: c.ChunkLimit}
	var err error
	if p.Scribe, err = h.scribe(c); err != nil {
		return err
	}
	if p.Start, err = c.start(); err != nil {
		return err
	}
	if c.URL == "" {
		h.forwarder.Follow(&p)
		return nil
	}
	a := decisionlog.Address{URL: c.URL, Resource: c.Resource, Partition: c.Partition, Timeout: time.Duration(c.Timeout), Headers: map[string]string{}}
	for name, value := range c.Headers {
		a.Headers[name] = os.Expand(value, os.Getenv)
	}
	for from, to := range map[string]*string{c.BearerFile: &a.BearerFile, c.Cert: &a.CertFile, c.Key: &a.KeyFile, c.CA: &a.CAFile} {
		if from != "" {
			*to = h.path(from)
		}
	}
	if p.Sink, err = decisionlog.NewSink(a); err != nil {
		return fmt.Errorf("decision_log: %w", err)
	}
	h.forwarder.Follow(&p)
	return nil
}

// scribe writes events as configured.
func (h *house) scribe(c *DecisionLogConfig) (*decisionlog.Scribe, error) {
	masks, err := c.masks()
	if err != nil {
		return nil, err
	}
	s := &decisionlog.Scribe{Masks: masks, InForce: func() decisionlog.Rules { return logging(h.rules.InForce()) }}
	s.Labels = map[string]string{"app": "hallmark", "id": h.auditLog.Verifier.Name(), "version": version, "instance": hostName()}
	maps.Copy(s.Labels, c.Labels)
	if c.RuleLabels == nil || *c.RuleLabels {
		s.Recall = func(ctx context.Context, digest string) (decisionlog.Rules, error) {
			rules, err := h.recall.Recall(ctx, digest)
			return logging(rules), err
		}
	}
	return s, nil
}

// logging are rules as the decision log asks them; nil where they cannot be asked so.
func logging(rules release.Rules) decisionlog.Rules {
	asked, _ := rules.(decisionlog.Rules)
	return asked
}

// forwarding returns what is told of each look at the record.
func (m *metrics) forwarding() func(decisionlog.Step) {
	events := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hallmark_decision_log_events_total", Help: "Decisions by what became of them in the decision log: sent, refused by the sink and left out, dropped by the policy, blotted because masks failed, unreadable."}, []string{"fate"})
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hallmark_decision_log_failures_total", Help: "Attempts to send decisions that failed, by reason. They are repeated."}, []string{"reason"})
	waiting := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "hallmark_decision_log_lag_entries", Help: "Entries of the record that were not sent to the sink yet."})
	age := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "hallmark_decision_log_lag_seconds", Help: "Age of the oldest entry that was not sent to the sink yet."})
	m.registry.MustRegister(events, failures, waiting, age)
	return func(s decisionlog.Step) {
		for fate, n := range map[string]int{"sent": s.Sent, "refused": s.Refused, "dropped": s.Dropped, "blotted": s.Blotted, "unreadable": s.Unreadable} {
			events.WithLabelValues(fate).Add(float64(n))
		}
		if s.Trouble != "" {
			failures.WithLabelValues(s.Trouble).Inc()
		}
		waiting.Set(float64(s.Waiting))
		age.Set(s.Age.Seconds())
	}
}
