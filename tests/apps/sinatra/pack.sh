bundle lock --local
