listen "0.0.0.0:#{ENV.fetch("PORT")}", backlog: 1024
worker_processes 4
timeout 30
preload_app true
