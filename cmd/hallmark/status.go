package main

import (
	"context"
	"net/http"
	"time"

	"github.com/hallmark-pki/hallmark/ca/status"
)

// Paths of the status listener that stand in certificates.
const issuerPath = "/ca/issuing.crt"

// statusDoor is the plain HTTP listener: what anybody may read, and what
// operations watch.
func (h *house) statusDoor() http.Handler {
	mux, boards := http.NewServeMux(), h.statusBoards()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", h.readyz)
	mux.Handle("GET /metrics", h.metrics.handler())
	for i, path := range []string{issuerPath, "/ca/root.crt"} {
		der := h.authority.Chain()[i].Raw
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/pkix-cert") // RFC 5280, Section 4.2.2.1
			w.Header().Set("Cache-Control", "max-age=3600")
			w.Write(der)
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status.Serves(r.URL.Path) { // which a ServeMux would redirect
			boards.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// readyz answers 200 when the doors are open and the database can be written.
func (h *house) readyz(w http.ResponseWriter, r *http.Request) {
	if !h.ready.Load() {
		http.Error(w, "starting or draining", http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	if err := h.db.Ping(ctx); err != nil {
		h.log.Error("not ready", "error", err)
		http.Error(w, "the database cannot be written", http.StatusServiceUnavailable)
		return
	}
	if err := h.rules.Behind(); err != nil { // it answers with the rules from before, which is better than not at all
		w.Write([]byte("ready, with an earlier policy: see the log\n"))
		return
	}
	w.Write([]byte("ready\n"))
}
