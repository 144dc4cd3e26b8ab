# Puma finishes the requests in progress on SIGTERM.
port ENV.fetch("PORT", "5000"), "0.0.0.0"
environment "production"
threads 5, 5
